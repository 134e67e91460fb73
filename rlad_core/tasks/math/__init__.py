"""Math problems with one short answer, read from data files.

`published` reads the field's rows, `prompt` asks for a boxed answer, `extract` and `stated` find it in the
reply, `verifier` judges it. `comparing` goes from cheap to dear: `notation` and `spellings` bring two answers
into one form; `numbers`, `spoken`, `marks`, `dates`, `choices`, `words`, `parts`, `equations` and
`quantities` know what they can compare exactly; `algebra` reads the rest, `equivalence` compares it, and
`nearness` what is said to be about the same. Only these three can take long: they call a computer algebra
system, and have to be run where they can be killed.
"""
