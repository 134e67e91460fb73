"""From prompts to experience: groups sampled, scored and judged, joined, cut into shards.

In: a step and a rank. Out: a `Shard`: a reference to EXPERIENCE rows, their plan, the step's facts.
May be called by: the learner, through the actor that a run starts.
"""
