"""What a pass on CPUs frees stays with its rank for the next pass.

By itself glibc maps what is larger than 32 MiB anew each time, and hands the end of its heap back as soon as
it is free. The kernel gives it out again page by page, each one cleared first: with activations of 64 MiB
(16,384 tokens, 1,024 wide) an eighth of a small model's passes (docs/performance.md). A rank makes the same
passes all the time, so what it takes most stays what it takes.
"""

from typing import Final

KEEPS_FREED_MEMORY: Final = {
    # One heap: those of other threads than the first end at 64 MiB, and Ray Train's is another.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Environment of a process from its start, since a thread stays with the heap that it began with."""
