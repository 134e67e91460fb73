"""What a pass frees is not asked of the kernel again."""

import os
import subprocess
import sys

import pytest

from services.learner.freed_memory import KEEPS_FREED_MEMORY

MIB = 80
#: How many pages a thread other than the first is given while it allocates and frees so much 20 times.
FAULTS = f"""
import resource, threading

def faults():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(20):
        bytearray({MIB} * 2**20)  # cleared
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

thread = threading.Thread(target=lambda: print(faults(), faults()))
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_is_freed_is_not_asked_of_the_kernel_again() -> None:
    environment = {**os.environ, **KEEPS_FREED_MEMORY}
    command = [sys.executable, "-c", FAULTS]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env=environment
    ).stdout
    assert int(told.split()[1]) < MIB * 2**20 // 4096
