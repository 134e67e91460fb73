"""The verifier service: responses judged in processes that can be killed.

In: RESPONSES (Arrow), or JSON. Out: REWARDS, with the reason of each in words.
Called by: cli, evaluate, run. They build it; experience and evaluate ask it through handles of `clients`,
anybody over HTTP.
"""
