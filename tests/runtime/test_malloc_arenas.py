from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest

# Each thread asks for much of its heap; with one heap for all there is no other.
PROGRAM = """
import ctypes, sys, threading
from edge_codec.runtime.malloc_arenas import use_one_arena
assert sys.argv[1] == "many" or use_one_arena()
barrier = threading.Barrier(4)
def work():
    kept = [ctypes.create_string_buffer(50_000) for _ in range(20)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of threads are glibc's")
@pytest.mark.parametrize(("heaps", "several"), [("one", False), ("many", True)])
def test_threads_share_a_heap(heaps: str, several: bool) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, heaps], capture_output=True, text=True, check=True
    )
    assert ("Arena 1" in result.stderr) is several


# A large block that was freed makes glibc put the next ones on the heap, unless it is told not to.
LARGE_BLOCKS = """
import ctypes, sys
from edge_codec.runtime.malloc_arenas import LARGE, use_one_arena
if sys.argv[1] == "one":
    use_one_arena()
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
c.free(c.malloc(ctypes.c_size_t(2 * LARGE)))
kept = c.malloc(ctypes.c_size_t(LARGE))
c.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="thresholds are glibc's")
@pytest.mark.parametrize(("heaps", "mapped"), [("one", True), ("many", False)])
def test_large_blocks_stay_outside_the_heap(heaps: str, mapped: bool) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LARGE_BLOCKS, heaps], capture_output=True, text=True, check=True
    )
    all_heaps, _, total = result.stderr.partition("Total (incl. mmap):")
    in_use, on_heaps = (
        sum(map(int, re.findall(r"in use bytes\s*=\s*(\d+)", text))) for text in (total, all_heaps)
    )
    assert (in_use - on_heaps >= 1 << 20) is mapped
