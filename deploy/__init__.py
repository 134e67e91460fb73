"""What ships beside the code: recipes of runs and the tiny models they start from.

Installed as the package ``services.deploy``; `rlad_core.config.SHIPPED` is its folder, wherever that is.
"""
