"""Knights and Knaves: who tells the truth, who lies?

`generator` makes puzzles, `perturbations` alters them, `prompt` asks for a solution, `verifier` judges the
reply, `published` reads the rows that others made, `reading` the text of any puzzle. All of them rest on
`puzzle`, which rests on `statements` and `islanders`.
"""
