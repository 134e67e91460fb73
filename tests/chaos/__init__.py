"""A run under fire: what is killed, stopped or cut off, and what becomes of it.

    python -m tests.chaos --faults 20 --seed 0

Engines are stubs (`stubs/`), whose answers depend on weights, seed and visit alone; Ray, its actors, Serve,
the learner, HTTP and files are real. So a run with faults must end with the weights and the ledger of one
without.
"""
