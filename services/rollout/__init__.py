"""The rollout service: groups of responses sampled from the current policy.

In: prompts as token ids, sampling settings, the oldest version that may answer. Out: ROLLOUTS (Arrow), or
JSON.
May be called by: experience and evaluate through handles of `clients`; anybody over HTTP.
Built by run and by the command line, and by evaluate.
"""
