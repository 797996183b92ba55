"""The bytes of an index: there and back, and nothing believed that is damaged or hostile."""

import hashlib
import json
import struct

import numpy as np
import pytest
from retrieval_samples import describe, make_exam, search_model

from edge_codec.errors import SourceError
from edge_codec.retrieval.disease_head import GroupGuess
from edge_codec.retrieval.index_file import MAGIC, Entry, FileState, pack_index, unpack_index

STATE = FileState(1234, 5_000_000_000, "ab" * 32)
GUESS = GroupGuess((0.1, 0.2, 0.3, 0.4, 0.0), False, "DCM")


def entries():
    exam = describe(search_model(), make_exam(1, 2, 3))
    return {
        "a.ecd": Entry(STATE, exam, GUESS),
        "b/c.ecd": Entry(FileState(7, 8, "cd" * 32), problem="no titok stream"),
    }


def sealed(body):
    return body + hashlib.sha256(body).digest()


def with_head(head, numbers=b""):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return sealed(MAGIC + struct.pack("<I", len(text)) + text + numbers)


def test_an_index_comes_back():
    made = entries()
    name, found = unpack_index(pack_index("weights-1", made))
    assert name == "weights-1"
    assert list(found) == list(made)
    for key, entry in made.items():
        assert (found[key].state, found[key].problem) == (entry.state, entry.problem)
        assert found[key].group == entry.group
    np.testing.assert_array_equal(found["a.ecd"].exam.frames, made["a.ecd"].exam.frames)
    np.testing.assert_array_equal(found["a.ecd"].exam.slices, made["a.ecd"].exam.slices)
    assert found["b/c.ecd"].exam is None


def test_every_flipped_byte_and_every_cut_is_found():
    data = pack_index("w", entries())
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        with pytest.raises(SourceError):
            unpack_index(bytes(flipped))
        with pytest.raises(SourceError):
            unpack_index(data[:place])


def stream(**changes):
    group = {"probabilities": [0.2] * 5, "unusual": False, "told_group": ""}
    fields = {"name": "a", "size": 1, "mtime_ns": 1, "sha256": "", "problem": "",
              "shape": [1, 1], "group": group}  # fmt: skip
    return {"weights": "w", "streams": [{**fields, **changes}]}


ONE_FRAME = np.zeros(2 * 64, np.float16).tobytes()


def test_the_smallest_index_is_read():
    _, found = unpack_index(with_head(stream(), ONE_FRAME))
    assert found["a"].exam.frames.shape == (1, 1, 64)


@pytest.mark.parametrize(
    "data",
    [
        with_head(b"\xff\xfe"),
        with_head(b"[" * 100_000),
        with_head([]),
        with_head({"weights": "w"}),
        with_head({"weights": "w", "streams": [3]}),
        with_head(stream(shape=[1 << 40, 1 << 40]), ONE_FRAME),
        with_head(stream(shape=[1 << 30, 1 << 30]), ONE_FRAME),
        with_head(stream(shape=[-1, -1]), ONE_FRAME),
        with_head(stream(shape=[0, 5]), ONE_FRAME),
        with_head(stream(shape=[0, 5])),
        with_head(stream(shape=[1]), ONE_FRAME),
        with_head(stream(shape=[1, 2]), ONE_FRAME),
        with_head(stream(size="x"), ONE_FRAME),
        with_head(stream(size=float("inf")), ONE_FRAME),
        with_head(stream(group={"probabilities": [1.0]}), ONE_FRAME),
        with_head(stream(group={"probabilities": [5, 0, 0, 0, 0]}), ONE_FRAME),
        with_head(stream(group=None), ONE_FRAME),
        with_head(stream(), ONE_FRAME + b"x"),
        with_head(stream(), np.full(2 * 64, np.nan, np.float16).tobytes()),
        sealed(MAGIC + struct.pack("<I", 0xFFFFFFFF)),
        sealed(MAGIC),
        sealed(b""),
        b"",
    ],
)
def test_a_hostile_index_is_refused(data):
    with pytest.raises(SourceError):
        unpack_index(data)
