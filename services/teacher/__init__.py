"""The teacher service: log-probs of given responses.

In: SEQUENCES (Arrow), or JSON. Out: TEACHER_SCORES, one float32 per response token.
Called by: cli, run. They build it; experience asks it through a `Teacher` of `clients`, anybody over HTTP.
"""
