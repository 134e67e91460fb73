"""The verifier service: responses judged in processes that can be killed.

In: RESPONSES (Arrow), or JSON. Out: REWARDS, with the reason of each in words.
May be called by: experience and evaluate through handles of `clients`; anybody over HTTP.
Built by run and by the command line, and by evaluate.
"""
