"""The short way to a task of one's own: a data file, and a function that rewards responses.

`settings` is its section in a recipe, `reading` reads the file, `reward` calls the function, `task` has both.
"""
