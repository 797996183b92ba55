"""Parts of a frame on threads that can be ended."""

import threading

import pytest
from live_samples import PATIENCE_S, no_thread_is_left

from edge_codec.runtime.band_threads import BandThreads

__all__ = ["no_thread_is_left"]


@pytest.fixture(params=[1, 2, 4])
def bands(request):
    made = BandThreads(request.param)
    yield made
    made.close()
    made.close()


def test_results_come_in_the_order_of_the_items(bands):
    for n in range(1, 9):
        assert list(bands(lambda item: item * item, range(n))) == [i * i for i in range(n)]


def test_the_calling_thread_takes_part():
    bands = BandThreads(2)
    first, second = bands(lambda _: threading.current_thread(), range(2))
    bands.close()
    assert first is threading.current_thread()
    assert second is not first


def test_items_are_at_work_at_the_same_time():
    bands, meeting = BandThreads(3), threading.Barrier(3)
    bands(lambda _: meeting.wait(PATIENCE_S), range(3))
    bands.close()


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_goes_up_after_all_items_are_done(failing):
    bands, done = BandThreads(3), []

    def work(item):
        if item == failing:
            raise ValueError(f"item {item}")
        done.append(item)

    with pytest.raises(ValueError, match=f"item {failing}"):
        bands(work, range(3))
    bands.close()
    assert sorted(done) == [i for i in range(3) if i != failing]


def test_several_callers_may_share_the_threads(bands):
    found = {}

    def call(base):
        found[base] = [list(bands(lambda i: i + base, range(5))) for _ in range(50)]

    callers = [threading.Thread(target=call, args=(base,)) for base in (0, 100)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert found == {base: [[base + i for i in range(5)]] * 50 for base in (0, 100)}
