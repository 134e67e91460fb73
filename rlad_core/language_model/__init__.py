"""What is known of a causal LM besides its weights: its tokens, its head, and what is refused.

`architecture` and `vocabulary` need neither torch nor weights.
"""
