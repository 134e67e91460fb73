"""Math problems with one short answer, read from data files.

`published` reads the field's rows, `prompt` asks for a boxed answer, `extract` and `stated` find it in the
reply, `verifier` judges it. `comparing` goes from cheap to dear: `notation` takes an answer's dress away;
`numbers`, `words`, `marks`, `quantities` and `shapes` know what they can compare exactly; `algebra` has the
rest. Only that can take long: it calls a computer algebra system, and has to be run where it can be killed.
"""
