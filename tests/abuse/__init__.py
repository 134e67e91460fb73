"""Attacks on the three services, over real HTTP and on real processes, and a table of what came of them.

    python -m tests.abuse                       # all of them in short: a few minutes
    python -m tests.abuse --long                # as much as it takes to be sure: hours
    python -m tests.abuse --only json_bombs --only lost_replica
    python -m tests.abuse --only any_request --requests 100000

Each file in `attacks` is one: ``SENT`` says what is sent; ``attack(target, effort)`` sends it, holds what
must hold, and returns what was measured.
"""
