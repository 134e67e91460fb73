"""The teacher's engine room: what a scoring engine is, two of them, and the batcher in front.

In: pairs of prompt and response. Out: one `Scored` each.
May be called by: the teacher service.
"""
