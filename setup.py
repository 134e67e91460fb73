"""Which folders become packages; everything else about the distribution is in pyproject.toml.

``deploy/`` (recipes and tiny models) is installed as the package ``services.deploy``, so that its files are
found the same way in a checkout, an editable install and a wheel (`services.shipped`).
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rlad_core*", "services*"]), "services.deploy"],
    package_dir={"services.deploy": "deploy"},
)
