"""The command ``rlad``.

In: what a person types. Out: tables and sentences; exit code 0, 1 (failed or stopped) or 2 (wrong usage or
recipe, found before an engine starts).
Called by: __main__. The console script calls it too.
"""
