"""What a recipe is made of: sections, what can be wrong with them, paths, and code that users bring.

In: mappings that were read from YAML. Out: checked sections, or `Problem`s that name the field and what to
write. Used by: the objectives, the tasks and the recipe itself (`rlad_core.config`).
"""
