"""A file's responses scored by a teacher, and written with their log-probs beside its own columns.

In: a data file of `rlad_core.data`, and a teacher behind a URL. Out: the same rows with log-probs, in
Parquet, Arrow or JSON lines; while it is made, finished parts beside it, from which a later call goes on.
Called by: cli. Needs neither Ray nor torch.

    asked     which columns hold prompt and response, and what of each row is sent
    parts     what is finished, kept so that a later call goes on
    looking   its columns and all of its rows, before anything is asked
    asking    rows -> the teacher -> their scores
    scoring   all rows, part by part; what is there is not asked for again
    writing   the file's rows and the parts, together
"""
