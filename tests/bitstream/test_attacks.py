"""Hostile headers and packets: refused quickly and in little memory, with a right CRC too."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from stream_samples import make_packets, make_spec

from edge_codec.bitstream.container import find_whole_part
from edge_codec.bitstream.header import pack_header, read_header
from edge_codec.bitstream.index import Footer, pack_index
from edge_codec.bitstream.packet import PacketHead
from edge_codec.bitstream.short_packet import MAX_FIRST_LAYER, ShortHead, pack_short
from edge_codec.bitstream.verify import verify
from edge_codec.errors import BitstreamError
from edge_codec.spec import ModelId

MAX_BYTES = 64 << 20
WATCHDOG_S = 5.0  # measured below 0.1; generous, as CI machines stall
FIXED = pack_header(make_spec())[:148]


def deflated(raw: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(raw) + deflate.flush()


def header_of(variable: bytes, *, times: int = 0, hashes: int = 0, source: int = 0) -> bytes:
    data = bytearray(FIXED + variable + bytes(4))
    struct.pack_into("<I", data, 12, len(data))
    struct.pack_into("<3I", data, 136, times, hashes, source)
    struct.pack_into("<I", data, len(data) - 4, zlib.crc32(data[:-4]))
    return bytes(data)


def bomb_of(raw_size: int, blocks: list[bytes]) -> bytes:
    packed = struct.pack("<I", raw_size)
    packed += b"".join(struct.pack("<I", len(block)) + block for block in blocks)
    return header_of(packed, source=len(packed))


BLOCK = deflated(bytes(16_384))
STORED = b"\1\0\x40\xff\xbf" + bytes(16_384)
ATTACKS = {
    "one block of 100 MiB": bomb_of(32 << 20, [deflated(bytes(100 << 20))]),
    "2047 of 2048 blocks": bomb_of(32 << 20, [BLOCK] * 2047),
    "2049 blocks": bomb_of(32 << 20, [BLOCK] * 2049),
    "all blocks, impossible stream": bomb_of(32 << 20, [BLOCK] * 2048),
    "2047 good blocks and a bad one": bomb_of(32 << 20, [BLOCK] * 2047 + [BLOCK[:-1]]),
    "raw size 4 GiB": bomb_of((1 << 32) - 1, [BLOCK] * 4),
    "times": header_of(b"", times=(1 << 32) - 1),
    "hashes": header_of(b"", hashes=64),
    "source": header_of(b"", source=(1 << 32) - 1),
    "a million times": header_of(b"\xff" * 8_000_000, times=1_000_000),
    "times that are not finite": header_of(b"\xff" * 8 * (1 << 18), times=1 << 18),
    "largest header, noise": header_of(bytes(4) + b"noise" * 3_000_000, source=15_000_004),
    "largest header, 32 MiB and one": bomb_of(32 << 20, [STORED] * 960 + [BLOCK] * 1089),
    "size of the largest header": FIXED[:12] + struct.pack("<I", 16 << 20) + FIXED[16:],
    "size beyond": FIXED[:12] + b"\xff\xff\xff\xff" + FIXED[16:],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_header_is_refused_cheaply(name: str) -> None:
    data = ATTACKS[name]
    if name == "all blocks, impossible stream":  # hostile only after the source is inflated
        data = data[:16] + bytes(4) + data[20:-4]
        data += struct.pack("<I", zlib.crc32(data))
    file = io.BytesIO(data)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(BitstreamError):
            read_header(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < WATCHDOG_S
    assert peak < MAX_BYTES


@pytest.mark.parametrize("head", [b"\xecP", b"\xecP\x12\0\0\0", b"\xecP\x37" + b"\xff" * 9])
def test_beginnings_of_heads_everywhere_are_passed_quickly(head: bytes) -> None:
    data = pack_header(make_spec()) + head * ((1 << 18) // len(head))
    start = time.perf_counter()
    assert not verify(io.BytesIO(data)).ok
    assert find_whole_part(io.BytesIO(data)).sequence == 0
    assert time.perf_counter() - start < WATCHDOG_S


def test_heads_that_all_promise_the_rest_of_the_file_are_passed_quickly() -> None:
    """None of their layers is whole; going through the rest for each would take for ever."""
    n, size = 20_000, 26  # of a head with so large a layer
    heads = b""
    for i in range(n):
        layer = (1, min((n - 1 - i) * size, (1 << 27) - 1), 0)
        heads += PacketHead(1 << 30, 0, 1 << 21, True, (layer,)).pack().ljust(size, b"\0")
    data = pack_header(make_spec(1, 0)) + heads
    start = time.perf_counter()
    assert not verify(io.BytesIO(data)).ok
    assert find_whole_part(io.BytesIO(data)).sequence == 0
    assert time.perf_counter() - start < WATCHDOG_S


@pytest.mark.parametrize("rest", [b"", b"\x3f\xff", b"\x7f\xff" * 3, b"\0" * 5, b"\x2f"])
def test_short_forms_that_promise_much_are_passed_quickly(rest: bytes) -> None:
    """Each full head opens the way to a short form, whose CRC covers up to 4 KiB."""
    layer = (1, 0, 0)
    full = b"".join(PacketHead(n, 0, n, True, (layer,)).pack() + rest for n in range(3000))
    data = pack_header(make_spec(1, 0)) + full
    start = time.perf_counter()
    verify(io.BytesIO(data))
    with contextlib.suppress(BitstreamError):
        find_whole_part(io.BytesIO(data))
    assert time.perf_counter() - start < WATCHDOG_S


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    n_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.n_read += len(data)
        return data


def test_short_heads_that_all_promise_the_rest_of_the_file_are_not_read_each() -> None:
    """Each has a right CRC; only its second layer, as long as the file, is wrong."""
    spec = make_spec(1, 4, key_interval=4, model=ModelId.VQVAE, max_error=1)
    first, second = make_packets(spec)[:2]
    rest = 1 << 19
    open_head = ShortHead(1, 0, 1, False, ((0, 0, 0), (1, rest, 0)), False)
    head = replace(open_head, layers=((0, 0, open_head.crc_of(b"")), (1, rest, 0))).pack()
    heads = head * (MAX_FIRST_LAYER // len(head))
    begin = pack_header(spec) + first.pack()
    file = CountingFile(begin + heads + bytes(rest))
    with pytest.raises(BitstreamError, match="so many heads"):
        find_whole_part(file)
    assert file.n_read < 8 * len(file.getvalue())

    # A single one is what a cut leaves where zeros stand for bytes that were on their way.
    file = CountingFile(begin + head + bytes(rest))
    part = find_whole_part(file)
    assert part is not None
    assert part.sequence == 1
    whole = pack_short(second, next_slice=False)
    assert whole is not None
    with pytest.raises(BitstreamError, match=r"packet 1 .* is whole"):
        find_whole_part(io.BytesIO(begin + head + whole + bytes(rest)))


def test_full_heads_one_after_another_are_read_a_few_times() -> None:
    head = PacketHead(1 << 30, 0, 1 << 21, True, ((1, 1, 0),)).pack() + b"x"
    file = CountingFile(pack_header(make_spec(1, 0)) + head * 4000)
    part = find_whole_part(file)
    assert part is not None
    assert part.sequence == 0
    assert file.n_read < 30 * len(file.getvalue())
    file.n_read = 0
    assert not verify(file).ok
    assert file.n_read < 60 * len(file.getvalue())


def test_index_of_packets_that_are_none_is_gone_through_once() -> None:
    n = 20_000
    packets = b"\x80" * (5 * n)
    index = pack_index(np.zeros(n, np.uint32), np.full(n, 5, np.uint32), 1)
    header = pack_header(make_spec(1, 0))
    footer = Footer(len(header + packets), n).pack()
    start = time.perf_counter()
    assert not verify(io.BytesIO(header + packets + index + footer)).ok
    assert time.perf_counter() - start < WATCHDOG_S


def test_zeros_instead_of_a_header_are_passed_quickly() -> None:
    start = time.perf_counter()
    assert find_whole_part(io.BytesIO(bytes(64 << 20))) is None
    with pytest.raises(BitstreamError):
        find_whole_part(io.BytesIO(bytes(64 << 20) + b"x"))
    assert time.perf_counter() - start < WATCHDOG_S


def test_import_is_light() -> None:
    code = "import sys, edge_codec.bitstream; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    heavy = {"torch", "onnxruntime", "openvino", "onnx", "nibabel", "pydicom", "tqdm", "scipy"}
    assert not heavy & set(loaded)
