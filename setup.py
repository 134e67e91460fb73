"""Which folders become packages; everything else about the distribution is in pyproject.toml.

``deploy/`` (recipes and tiny models) is installed as the package ``services.deploy``, so that it
travels with a wheel; `rlad_core.config.SHIPPED` is where it is found.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rlad_core*", "services*"]), "services.deploy"],
    package_dir={"services.deploy": "deploy"},
)
