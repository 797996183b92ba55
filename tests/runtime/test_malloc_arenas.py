from __future__ import annotations

import platform
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
