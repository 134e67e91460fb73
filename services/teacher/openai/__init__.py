"""The teacher as an OpenAI-compatible server, and as the one that TRL's clients ask.

In: bodies. Out: pairs for the engine; answers from what it scored.
May be called by: the teacher's service.
"""
