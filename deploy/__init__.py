"""What ships beside the code: recipes of runs and the tiny models they start from.

Installed as the package ``services.deploy``; `services.shipped` finds its files wherever they are.
"""
