"""Which folders become packages, and what a wheel holds beside them; the rest is in pyproject.toml.

``deploy/`` (recipes and tiny models) is installed as the package ``services.deploy``, so that it
travels with a wheel; `rlad_core.config.SHIPPED` is where it is found. ``k8s/base``, of which `rlad k8s` makes
manifests, is the package ``services.k8s``. ``constraints.txt`` travels as ``services/constraints.txt``:
`rlad doctor` says with it what was tested.
"""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWithConstraints(build_py):
    """The packages, and the list of tested versions; an editable install has that in the checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file("constraints.txt", str(Path(self.build_lib, "services", "constraints.txt")))


setup(
    packages=[*find_packages(include=["rlad_core*", "services*"]), "services.deploy", "services.k8s"],
    package_dir={"services.deploy": "deploy", "services.k8s": "k8s/base"},
    cmdclass={"build_py": BuildWithConstraints},
)
