"""A lean Ray: what its workers begin with, and what is done while it starts."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROGRAM = """
import sys
import ray
from services.serve.cluster import embedded_ray

done = []

def meanwhile():
    done.append(ray.is_initialized())

@ray.remote
def told():
    begun_with = {name: name in sys.modules for name in ("ray.serve", "pandas")}
    import pandas
    return begun_with, __import__("__main__").__file__, pandas.Series([1, 2]).sum()

with embedded_ray(num_cpus=1, object_store_gib=0.1, services_alone=True, meanwhile=meanwhile):
    print(done, *ray.get(told.remote(), timeout=120), sep="|")
"""


def test_workers_have_serve_by_the_time_they_are_asked_and_pandas_when_they_want_it() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=280)
    assert said.returncode == 0, said
    done, begun_with, program, total = said.stdout.strip().split("|")
    assert done == "[False]"
    assert begun_with == "{'ray.serve': True, 'pandas': False}"
    assert program.endswith("ray/_private/workers/default_worker.py")
    assert total == "3"
