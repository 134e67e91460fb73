"""The rollout service: groups of responses sampled from the current policy.

In: prompts as token ids, sampling settings, the oldest version that may answer. Out: ROLLOUTS (Arrow), or
JSON.
Called by: cli, clients, evaluate, experience, run. It is built by cli, evaluate and run, and asked through
handles of `clients`; anybody may ask it over HTTP.
"""
