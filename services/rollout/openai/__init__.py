"""The policy as an OpenAI-compatible server: chats and completions.

In: bodies. Out: wishes for the engine; answers, whole or as events.
May be called by: the rollout service.
"""
