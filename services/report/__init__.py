"""What a run leaves, and how it is read: the journal writes the record, pages and tables are made from it.

In: rows of steps and evaluations; a run's folder, of a run that is over, going on, or was killed. Out: the
record's files; report.html, plots, tables. What is missing is left out and said, never guessed.
Called by: cli, compare, evaluate, run. A learner tells the journal through the actor that a run starts.
"""
