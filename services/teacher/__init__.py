"""The teacher service: log-probs of given responses.

In: SEQUENCES (Arrow), or JSON. Out: TEACHER_SCORES, one float32 per response token.
May be called by: experience through a `Teacher` of `clients`; anybody over HTTP.
Built by run and by the command line.
"""
