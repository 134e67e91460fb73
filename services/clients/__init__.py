"""How the services of a cluster are reached: handles, calls with limits, and one way to ask any teacher.

In: names of a run, sections of its recipe. Out: handles, `Responses`, `Teacher`s.
Called by: cli, compare, evaluate, experience, learner, run.
"""
