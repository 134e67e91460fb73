"""A wheel, and what is installed from it, once a session."""

import os
import sys
import sysconfig
from pathlib import Path

import pytest

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from environments import ROOT, Environment, build_wheel, create


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install rlad` installs."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """After `pip install rlad`: nothing but what the wheel itself asks for, from the package index."""
    environment = create(tmp_path_factory.mktemp("light") / "an environment")
    versions = ("--constraint", str(ROOT / "constraints.txt"))
    try:
        environment.pip("install", "--quiet", "--retries", "2", *versions, str(wheel))
    except AssertionError as error:
        # CI has just installed the rest from there, so that it fails then is not for want of a network.
        if os.environ.get("CI") != "true" and "No matching distribution" in str(error):
            pytest.skip("the package index is out of reach")
        raise
    return environment


@pytest.fixture(scope="session")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """After `pip install rlad[cpu]`: the wheel, and Ray, torch and vLLM of this very environment behind it.

    Their folder is named in a .pth file. Files of that kind inside it then don't count, so the checkout,
    which is linked by one, is not to be had.
    """
    environment = create(tmp_path_factory.mktemp("full") / "an environment")
    environment.pip("install", "--quiet", "--no-index", "--no-deps", str(wheel))
    beside = environment.site_packages / "beside.pth"
    beside.write_text(sysconfig.get_path("purelib") + "\n")
    return environment
