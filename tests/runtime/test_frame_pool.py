"""Buffers that are made once and used again."""

import mmap

import numpy as np
import pytest

from edge_codec.errors import StreamError
from edge_codec.runtime.frame_pool import FrameBuffer, FramePool

INT16 = np.dtype(np.int16)


def test_a_buffer_is_whole_pages_and_begins_with_one():
    buffer = FrameBuffer(10)
    assert buffer.size == mmap.PAGESIZE
    assert buffer.view((5, 1), INT16).ctypes.data % mmap.PAGESIZE == 0
    assert isinstance(buffer.locked, bool)


def test_a_view_is_the_buffers_beginning_and_is_made_once():
    buffer = FrameBuffer(100)
    view = buffer.view((3, 4), INT16)
    view[:] = 7
    assert buffer.view((3, 4), INT16) is view
    other = buffer.view((2, 2), np.dtype(np.int32))
    assert other.shape == (2, 2)
    assert (other == 7 + (7 << 16)).all()


def test_buffers_are_used_again():
    pool = FramePool(2)
    for _ in range(5):
        first, second = pool.take(100), pool.take(100)
        assert pool.lent == 2
        pool.give_back(second)
        pool.give_back(first)
    assert (pool.made, pool.lent) == (2, 0)


def test_a_pool_is_filled_before_it_is_needed():
    pool = FramePool(4)
    first = pool.take(100)
    assert (pool.made, pool.lent) == (4, 1)
    others = [pool.take(100) for _ in range(3)]
    assert pool.made == 4
    assert len({id(buffer) for buffer in (first, *others)}) == 4


def test_only_so_much_is_made_before_it_is_needed(monkeypatch):
    monkeypatch.setattr("edge_codec.runtime.frame_pool.AT_ONCE_BYTES", 3 * mmap.PAGESIZE)
    pool = FramePool(9)
    pool.take(mmap.PAGESIZE)
    assert pool.made == 1 + 3
    pool.take(5 * mmap.PAGESIZE)  # more than that alone
    assert pool.made == 1 + 3 + 1


def test_no_more_than_the_limit_are_lent():
    pool = FramePool(1)
    buffer = pool.take(1)
    with pytest.raises(StreamError, match="all 1 frame buffers are in use"):
        pool.take(1)
    pool.give_back(buffer)
    assert pool.take(1) is buffer


def test_buffers_that_are_too_small_are_given_up():
    pool = FramePool(3)
    small = pool.take(1)
    large = pool.take(3 * mmap.PAGESIZE)
    pool.give_back(small)
    pool.give_back(large)
    assert pool.take(1) is large
    assert pool.take(1).size == 3 * mmap.PAGESIZE
    assert pool.made == 3 + 2  # 2: the small one is still lent


def test_memory_that_cannot_be_locked_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr("edge_codec.runtime.frame_pool._lock", lambda memory: False)
    pool = FramePool(2)
    with caplog.at_level("INFO"):
        assert not pool.take(1).locked
        pool.take(1)
    assert caplog.text.count("not locked in memory") == 1


def test_a_pool_can_be_emptied():
    pool = FramePool(1)
    buffer = pool.take(9 * mmap.PAGESIZE)
    pool.give_back(buffer)
    pool.clear()
    assert pool.take(1).size == mmap.PAGESIZE


def test_a_buffer_that_could_not_be_made_is_not_lent(monkeypatch):
    pool = FramePool(1)
    with monkeypatch.context() as patch:
        patch.setattr("edge_codec.runtime.frame_pool.mmap.mmap", no_memory)
        with pytest.raises(OSError, match="no memory"):
            pool.take(1)
    assert pool.lent == 0
    pool.take(1)


def no_memory(*arguments):
    raise OSError("no memory")
