"""From prompts to experience: groups sampled, scored and judged, joined, cut into shards.

In: a step and a rank. Out: a `Shard`: a reference to EXPERIENCE rows, their plan, the step's facts.
Called by: learner, report, run. A learner asks it through the actor that a run starts.
"""
