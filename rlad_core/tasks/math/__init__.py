"""Math problems with one short answer, read from data files.

`published` reads the field's rows, `prompt` asks for a boxed answer, `extract` finds it in the reply,
`notation` repairs how it is written, `verifier` compares it with the gold answer. Only the verifier can take
long: it calls a computer algebra system, and has to be run where it can be killed.
"""
