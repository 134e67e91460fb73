"""Clients that take their answers slowly, or not at all: what lies in memory for them, and for how long.

    Serve's proxy    answers_taken    sends an answer in pieces, as the connection takes them
                          |
                          |-- what it wrote ---------> clients_behind: what lies for whom; cuts off who
                          |                            takes nothing, and uvicorn tells that the client left
                          |-- which are under way ---> unsent: counted by whoever ends the process
                          |-- what lies on a connection, which all three ask, with TLS too: lying
                          |
                        taken         tells a replica how far its answer has gone
                          |
    replica             taken         waits before it sends more than is taken (`HeldBack`)

In: messages of an answer, as ASGI has them. Out: the same in pieces, no faster than they are taken.
May be called by: the proxy, the gate of a service, and `services.serve.proxies`, which waits for what is not
sent.
"""
