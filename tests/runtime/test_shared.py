"""Parts of a frame on several threads."""

import threading

import pytest

from edge_codec.errors import SpecError
from edge_codec.runtime.shared import band_mapper, share


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(threads):
    assert list(share(threads)(lambda item: item * item, range(1, 6))) == [1, 4, 9, 16, 25]


def test_the_calling_thread_takes_part():
    names = list(share(2)(lambda _: threading.current_thread(), range(2)))
    assert names[0] is threading.current_thread()
    assert names[1] is not threading.current_thread()


def test_an_error_goes_up_after_all_items_are_done():
    done = threading.Event()

    def work(item):
        if item == 0:
            raise ValueError("first")
        done.wait(0.2)
        done.set()

    with pytest.raises(ValueError, match="first"):
        share(2)(work, range(2))
    assert done.is_set()


def test_bands_need_a_thread():
    assert band_mapper(1) is map
    with pytest.raises(SpecError, match="threads is 0"):
        band_mapper(0)
