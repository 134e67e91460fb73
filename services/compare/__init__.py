"""Methods side by side: one suite, many runs, one report.

In: a suite (a base recipe, variants of it, seeds). Out: a folder with every run and a report over them. A run
is carried out by the command `rlad run` in a process of its own, so it is what a person would have got.
Called by: cli.
"""
