"""rANS on the GPU, in Triton's interpreter: the C coder's bytes, symbols and statuses."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_codec.entropy import rans as coder
from edge_codec.entropy.arguments import LANES
from edge_codec.entropy.cdf import normalize_counts
from edge_codec.errors import BitstreamError, EngineError, FrameError, SpecError

pytest.importorskip("triton")
torch = pytest.importorskip("torch")

from edge_codec.kernels import rans  # noqa: E402
from edge_codec.kernels.reference import rans as reference  # noqa: E402

POISON = 0x5A
NO_SHRINKING = (Phase.explicit, Phase.generate)  # it would take minutes in the interpreter


def offsets_of(counts: list[int]) -> Any:
    return torch.from_numpy(np.cumsum([0, *counts]).astype(np.int32))


def split(array: NDArray[Any], counts: list[int]) -> list[NDArray[Any]]:
    return np.split(array, np.cumsum(counts)[:-1])


def gpu_encode(pairs: NDArray[np.int32], counts: list[int], lanes: int) -> list[bytes]:
    capacity = rans.slot_words(max(counts), lanes)
    payloads = rans.encode(torch.from_numpy(pairs), offsets_of(counts), lanes, capacity)
    return rans.download(payloads)


def gpu_decode(
    payloads: list[bytes],
    counts: list[int],
    cdfs: NDArray[np.uint32],
    lanes: int,
    contexts: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    dtype = np.uint8 if cdfs.shape[1] <= 257 else np.uint16
    symbols = np.full(sum(counts), POISON, dtype)
    statuses = np.full(len(counts), POISON, np.int32)
    rans.decode(
        rans.upload(payloads, "cpu"),
        offsets_of(counts),
        rans.decode_tables(cdfs, "cpu"),
        lanes,
        None if contexts is None else torch.from_numpy(contexts),
        out=(torch.from_numpy(symbols), torch.from_numpy(statuses)),
    )
    return symbols, statuses


def assert_same_as_c(
    symbols: NDArray[Any],
    counts: list[int],
    cdfs: NDArray[np.uint32],
    lanes: int,
    contexts: NDArray[Any] | None = None,
) -> None:
    rows = [None] * len(counts) if contexts is None else split(contexts, counts)
    expected = [
        coder.encode_static(part, cdfs, row, lanes)
        for part, row in zip(split(symbols, counts), rows, strict=True)
    ]
    pairs = reference.static_pairs(symbols, cdfs, 0 if contexts is None else contexts)
    assert gpu_encode(pairs, counts, lanes) == expected
    decoded, statuses = gpu_decode(expected, counts, cdfs, lanes, contexts)
    assert not statuses.any()
    assert decoded.dtype == symbols.dtype
    np.testing.assert_array_equal(decoded, symbols)


@pytest.mark.parametrize("lanes", LANES)
def test_bytes_and_symbols_are_those_of_the_c_coder(lanes: int) -> None:
    rng = np.random.default_rng(lanes)
    counts = [0, 1, lanes - 1, 1000 if lanes >= 16 else 16 * lanes + 5, lanes + 1, 0]
    cdfs = normalize_counts(rng.integers(0, 300, (3, 200)) ** 2)
    contexts = rng.integers(0, 3, sum(counts)).astype(np.uint8)
    symbols = rng.integers(0, 200, sum(counts)).astype(np.uint8)
    assert_same_as_c(symbols, counts, cdfs, lanes, contexts)


def test_extreme_frequencies() -> None:
    cdfs = np.array(
        [
            [0, 65536, 65536, 65536, 65536],
            [0, 0, 0, 0, 65536],
            [0, 1, 1, 65535, 65536],
            [0, 65535, 65535, 65535, 65536],
            [0, 0, 32768, 65536, 65536],
        ],
        np.uint32,
    )
    rng = np.random.default_rng(0)
    contexts = np.repeat(np.arange(5, dtype=np.uint8), 40)
    possible = [np.flatnonzero(np.diff(row.astype(int))) for row in cdfs]
    symbols = np.array([rng.choice(possible[row]) for row in contexts], np.uint8)
    assert_same_as_c(symbols, [40] * 5, cdfs, 4, contexts)
    order = rng.permutation(200)
    assert_same_as_c(symbols[order], [150, 50], cdfs, 8, contexts[order])


def test_wide_symbols_of_one_slot_each() -> None:
    # All buckets are as full as they can be: every symbol needs the binary search.
    cdfs = np.arange(65537, dtype=np.uint32)[None]
    symbols = np.random.default_rng(1).integers(0, 65536, 300).astype(np.uint16)
    symbols[:4] = 0, 65535, 15, 16
    assert_same_as_c(symbols, [300], cdfs, 32)


def test_many_contexts_have_coarser_buckets() -> None:
    rng = np.random.default_rng(2)
    cdfs = normalize_counts(rng.integers(0, 40, (300, 256)) ** 4)
    tables = rans.decode_tables(cdfs, "cpu")
    assert tables.coarse.numel() <= 1 << 16
    assert tables.shift > 4
    contexts = rng.integers(0, 300, 400).astype(np.uint16)
    symbols = rng.integers(0, 256, 400).astype(np.uint8)
    assert_same_as_c(symbols, [100, 300], cdfs, 16, contexts)


@settings(derandomize=True, max_examples=12, deadline=None, phases=NO_SHRINKING)
@given(st.data(), st.sampled_from(LANES), st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_any_pairs_in_ragged_batches(data: st.DataObject, lanes: int, counts: list[int]) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    frequencies = 1 + (65535 * rng.random(sum(counts)) ** rng.integers(1, 9)).astype(np.int64)
    starts = rng.integers(0, 65537 - frequencies)
    pairs = reference.pack_pairs(starts, frequencies)
    expected = reference.encode(pairs, offsets_of(counts).numpy(), lanes)
    assert gpu_encode(pairs, counts, lanes) == expected


hostile = st.one_of(
    st.binary(max_size=30),
    st.tuples(st.integers(0, 2**32 - 1), st.sampled_from(["flip", "cut", "append", "state"])),
)


@settings(derandomize=True, max_examples=8, deadline=None, phases=NO_SHRINKING)
@given(
    st.sampled_from((1, 2, 4, 8)),
    st.lists(st.tuples(hostile, st.integers(0, 16)), min_size=16, max_size=40),
)
def test_hostile_payloads_get_the_statuses_of_c(
    lanes: int, jobs: list[tuple[bytes | tuple[int, str], int]]
) -> None:
    cdfs = normalize_counts(np.array([[900, 0, 3, 40, 1], [1, 1, 1, 1, 0]]), keep_all=False)
    payloads, contexts = [], []
    for content, count in jobs:
        rng = np.random.default_rng(count if isinstance(content, bytes) else content[0])
        rows = rng.integers(0, 2, count).astype(np.uint8)
        symbols = rng.choice([0, 2, 3], count).astype(np.uint8)
        payload = bytearray(coder.encode_static(symbols, cdfs, rows, lanes))
        payloads.append(content if isinstance(content, bytes) else damage(payload, content[1], rng))
        contexts.append(rows)
    counts = [count for _, count in jobs]
    symbols, statuses = gpu_decode(payloads, counts, cdfs, lanes, np.concatenate(contexts))
    for i, part in enumerate(split(symbols, counts)):
        expected, status = reference.decode(payloads[i], counts[i], cdfs, lanes, contexts[i])
        assert statuses[i] == status
        if status == 0:
            np.testing.assert_array_equal(part, expected)


def damage(payload: bytearray, how: str, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(payload)))
    if how == "flip":
        payload[at] ^= int(rng.integers(1, 256))
    elif how == "cut":
        del payload[at:]
    elif how == "append":
        payload += bytes(int(rng.integers(1, 5)))
    else:
        payload[2:4] = b"\0\0"
    return bytes(payload)


def test_every_status_is_reported() -> None:
    cdfs = normalize_counts(np.array([[9, 3, 1]]))
    good = coder.encode_static(np.tile(np.uint8([0, 1, 2]), 20), cdfs, lanes=2)
    low_state = good[:2] + b"\0\0" + good[4:]
    payloads = [good, good[:-2], good[:7], b"", good[:-1], good + b"\0\0", low_state, good]
    symbols, statuses = gpu_decode(payloads, [60] * 7 + [59], cdfs, 2)
    assert statuses.tolist() == [0, 2, 2, 2, 4, 4, 3, 4]
    np.testing.assert_array_equal(symbols[:60], np.tile([0, 1, 2], 20))
    for i, reason in ((1, "ends before"), (5, "goes on after"), (6, "outside its range")):
        with pytest.raises(BitstreamError, match=f"60 symbols.*{reason}"):
            rans.check_statuses(torch.from_numpy(statuses[i : i + 1]), offsets_of([60]))
    rans.check_statuses(torch.from_numpy(statuses[:1]), offsets_of([60]))


def test_context_without_a_table_is_refused_and_harmless() -> None:
    cdfs = normalize_counts(np.array([[1, 2], [2, 1], [0, 9]]))
    payload = coder.encode_static(np.zeros(5, np.uint8), cdfs, lanes=1)
    tables = rans.decode_tables(cdfs, "cpu")
    # The third row is in memory, but not among the tables.
    tables = dataclasses.replace(tables, coarse=tables.coarse[:2], entries=tables.entries[:2])
    contexts = np.array([0, 0, 2, 0, 0] + [0] * 5, np.uint8)
    symbols, statuses = np.full(10, POISON, np.uint8), np.full(2, POISON, np.int32)
    rans.decode(
        rans.upload([payload, payload], "cpu"),
        offsets_of([5, 5]),
        tables,
        1,
        torch.from_numpy(contexts),
        out=(torch.from_numpy(symbols), torch.from_numpy(statuses)),
    )
    assert statuses.tolist() == [8, 0]
    assert not symbols.any()
    with pytest.raises(FrameError, match="payload 0: a context has no table"):
        rans.check_statuses(torch.from_numpy(statuses), offsets_of([5, 5]))


def test_what_lies_around_the_arrays_is_neither_read_nor_written() -> None:
    cdfs = normalize_counts(np.array([[9, 3, 1]]))
    good = coder.encode_static(np.tile(np.uint8([0, 1, 2]), 10), cdfs, lanes=4)
    words = np.frombuffer(good + good[:-4], np.uint16)
    # The second payload is cut; the others claim to lie outside of the array or of the symbols.
    begins = np.array([0, len(good) // 2, -1, 2**31 - 1, len(words) - 1, 0, 0], np.int32)
    sizes = np.array([len(good), len(good) - 4, 16, 16, 16, 2**31 - 1, len(good)], np.int32)
    offsets = np.array([0, 30, 60, 60, 60, 60, 60, 2**31 - 1], np.int32)
    results = []
    for filler in (0, 0xFFFF):
        around = np.full(len(words) + 64, filler, np.uint16)
        around[32:-32] = words
        symbols, statuses = np.full(130, POISON, np.uint8), np.full(27, POISON, np.int32)
        rans.decode(
            rans.Payloads(*map(torch.from_numpy, (around[32:-32], begins, sizes))),
            torch.from_numpy(offsets),
            rans.decode_tables(cdfs, "cpu"),
            4,
            out=(torch.from_numpy(symbols[20:110]), torch.from_numpy(statuses[10:17])),
        )
        assert (symbols[:20] == POISON).all()
        assert (symbols[110:] == POISON).all()
        assert (statuses[:10] == POISON).all()
        assert (statuses[17:] == POISON).all()
        assert statuses[10:17].tolist() == [0, 2, 2, 2, 2, 2, 0]
        np.testing.assert_array_equal(symbols[20:50], np.tile([0, 1, 2], 10))
        results.append(symbols)
    # Not even where words were missing do the symbols depend on what follows the array.
    np.testing.assert_array_equal(*results)


def test_offsets_beyond_the_pairs_write_nothing_beyond_their_slots() -> None:
    pairs = reference.pack_pairs(np.zeros(9), np.full(9, 7))
    offsets = np.array([-5, 4, 2, 2**31 - 1, 9], np.int32)
    numbers = np.full((4, 4), POISON, np.int32)
    words = np.full(4 * 20 + 20, POISON, np.uint16)
    out = rans.Payloads(*map(torch.from_numpy, (words[10:-10], numbers[1], numbers[2])))
    rans.encode(torch.from_numpy(pairs), torch.from_numpy(offsets), 2, 20, out=out)
    expected = reference.encode(pairs, np.array([0, 4, 4, 4]), 2)[:2]
    expected += reference.encode(pairs, np.array([2, 9, 9]), 2)
    assert rans.download(out) == expected
    for untouched in (words[:10], words[-10:], numbers[0], numbers[3]):
        assert (untouched == POISON).all()


def test_slot_that_is_too_small() -> None:
    pairs = torch.from_numpy(reference.pack_pairs(np.zeros(18), np.full(18, 9)))
    # The second payload's words would fit its slot, its states would not.
    words = torch.from_numpy(np.full(27, POISON, np.uint16))
    out = rans.Payloads(words, *torch.full((2, 3), POISON, dtype=torch.int32))
    payloads = rans.encode(pairs, offsets_of([5, 8, 5]), 2, rans.slot_words(5, 2), out=out)
    first, second, last = payloads.sizes.tolist()
    assert first == last > second == 0
    assert (payloads.words.numpy()[9:18] == POISON).all()
    with pytest.raises(EngineError, match="payload 1 does not fit"):
        rans.download(payloads)


def test_empty_batches() -> None:
    none = torch.zeros(0, dtype=torch.int32)
    assert rans.download(rans.encode(none, offsets_of([]), 8, 16)) == []
    _, statuses = gpu_decode([], [], normalize_counts(np.array([1, 1])), 8)
    assert statuses.shape == (0,)


def test_payloads_travel_both_ways() -> None:
    payloads = [b"abc", b"", b"0123456789", bytearray(b"x")]
    uploaded = rans.upload(payloads, "cpu")
    assert uploaded.begins.tolist() == [0, 2, 2, 7]
    assert uploaded.sizes.tolist() == [3, 0, 10, 1]
    without_empty = rans.Payloads(uploaded.words, uploaded.begins[2:], uploaded.sizes[2:])
    assert rans.download(without_empty) == [b"0123456789", b"x"]


def test_encoder_refuses_what_it_would_misread() -> None:
    pairs, offsets = torch.zeros(4, dtype=torch.int32), offsets_of([2, 2])
    with pytest.raises(SpecError, match="3 lanes"):
        rans.encode(pairs, offsets, 3, 20)
    with pytest.raises(EngineError, match="pairs: int64 of shape"):
        rans.encode(pairs.long(), offsets, 1, 20)
    with pytest.raises(EngineError, match="not contiguous"):
        rans.encode(torch.zeros(8, dtype=torch.int32)[::2], offsets, 1, 20)
    with pytest.raises(EngineError, match="offsets"):
        rans.encode(pairs, offsets.short(), 1, 20)
    for capacity in (-1, 1 << 30, 1 << 40):
        with pytest.raises(EngineError, match="slots"):
            rans.encode(pairs, offsets, 1, capacity)
    out = rans.encode(pairs, offsets, 1, 20)
    with pytest.raises(EngineError, match="40 words, not 2 x 21"):
        rans.encode(pairs, offsets, 1, 21, out=out)
    with pytest.raises(EngineError, match="begins"):
        rans.encode(pairs, offsets, 1, 20, out=out._replace(begins=out.begins[:1]))


def test_decoder_refuses_what_it_would_misread() -> None:
    tables = rans.decode_tables(normalize_counts(np.array([1, 1])), "cpu")
    payloads, offsets = rans.upload([b"1234"], "cpu"), offsets_of([3])
    symbols, statuses = torch.zeros(3, dtype=torch.uint8), torch.zeros(1, dtype=torch.int32)
    with pytest.raises(EngineError, match="symbols: int32"):
        rans.decode(payloads, offsets, tables, 1, out=(symbols.int(), statuses))
    with pytest.raises(EngineError, match="statuses"):
        rans.decode(payloads, offsets, tables, 1, out=(symbols, statuses[:0]))
    with pytest.raises(EngineError, match="contexts"):
        rans.decode(payloads, offsets, tables, 1, symbols[:2], out=(symbols, statuses))
    misread = payloads._replace(words=payloads.words.view(torch.uint8))
    with pytest.raises(EngineError, match="words: uint8"):
        rans.decode(misread, offsets, tables, 1, out=(symbols, statuses))
    with pytest.raises(SpecError, match="cumulative frequencies"):
        rans.decode_tables(np.array([[0, 5]], np.uint32), "cpu")


def test_compiled_kernels_need_no_shared_memory_and_count_bits_in_one_instruction() -> None:
    program = (
        "from edge_codec.kernels import rans\n"
        "from edge_codec.kernels.aot import compile_kernel\n"
        "for spec in rans.specs(87)[1::2]:\n"
        "    kernel = compile_kernel(spec, 87)\n"
        "    assert kernel.ptx.count('popc.b32') == 2, kernel.ptx\n"
        "    assert 'bar.sync' not in kernel.ptx\n"
        "    assert kernel.shared_bytes == kernel.spill_bytes == 0\n"
    )
    environment = {name: v for name, v in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
