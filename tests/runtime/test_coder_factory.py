"""What the streams of a pipeline share, and what is ready before their first frame."""

import numpy as np
import pytest
from live_samples import no_thread_is_left

from edge_codec.codec import Decoder
from edge_codec.engine import no_mark
from edge_codec.errors import EngineError
from edge_codec.runtime.clock import Clock, JumpWatch
from edge_codec.runtime.coder_factory import CoderFactory
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.warm_up import warm_up
from edge_codec.spec import CineInfo, Effort, ModelId, SampleFormat, StreamSpec

__all__ = ["no_thread_is_left"]
MODEL = LiveOptions(model=ModelId.VQVAE, max_error=4, backend="onnxruntime")


def spec(rows=200, columns=16, dtype=np.int16, **fields):
    info = CineInfo(3, 5, rows, columns, np.dtype(dtype), fields.pop("sample_format", 0))
    return StreamSpec(info, **{"low": -5, "high": 3000, **fields})


def test_one_worker_shares_models_and_threads_among_streams():
    factory = CoderFactory(workers=1)
    factory.prepare(MODEL)
    (model,) = factory._models.values()
    for _ in range(3):
        factory.prepare(LiveOptions(threads=2))
        factory.prepare(MODEL)
    assert list(factory._models.values()) == [model]
    assert set(factory._mappers) <= {2, 3, 4}
    factory.close()


def test_several_workers_have_a_model_for_each_stream_and_no_other_threads():
    factory = CoderFactory(workers=2)
    factory.prepare(MODEL)
    first = next(iter(factory._models.values()))
    factory.prepare(MODEL)
    assert next(iter(factory._models.values())) is not first
    assert not factory._mappers
    factory.close()


def test_a_backend_that_is_not_there_is_an_error_at_the_start():
    factory = CoderFactory(workers=1)
    with pytest.raises(EngineError, match="backend 'abacus' is unknown"):
        factory.prepare(LiveOptions(model=ModelId.VQVAE, backend="abacus"))
    factory.close()


def test_a_coder_codes():
    factory = CoderFactory(workers=1)
    coder = factory.prepare(LiveOptions(threads=2))(spec(), no_mark)
    frame = heart(1, 200, 16, np.dtype(np.int16))[0]
    assert (Decoder(spec()).push(coder.push(frame)) == frame).all()
    factory.close()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rows": 1, "columns": 1},
        {"dtype": np.uint8, "low": 0, "high": 255},
        {"dtype": np.int64, "low": 1 << 40, "high": (1 << 40) + 9},
        {"dtype": np.float32, "sample_format": SampleFormat.FLOAT32_ORDERED},
        {"effort": Effort.FAST, "max_error": 3},
    ],
)
def test_any_coder_can_be_warmed_up(fields):
    factory, given = CoderFactory(workers=1), spec(**fields)
    options = LiveOptions()
    times = factory.warm_up(factory.prepare(options), options, given)
    assert times.n_voxels == given.info.rows * given.info.columns
    assert times.fast_ns > 0
    assert times.before_ns > 0
    factory.close()


def test_a_coder_of_a_kind_that_ran_before_is_warm():
    factory, made = CoderFactory(workers=1), []
    options = LiveOptions(threads=1)

    def make_coder(given, mark):
        made.append(given)
        return factory.prepare(options)(given, mark)

    first = factory.warm_up(make_coder, options, spec())
    assert factory.warm_up(make_coder, LiveOptions(threads=1, budget_ms=7.0), spec()) is first
    assert len(made) == 1
    factory.warm_up(make_coder, options, spec(rows=100))
    assert len(made) == 2
    factory.close()


def test_warming_up_runs_both_rungs():
    calls = []

    class Coder:
        def __init__(self, mark):
            self.mark = mark

        def push(self, frame, *, give_up_ns=None):
            calls.append(give_up_ns)
            self.mark("normalize")
            self.mark("code")

    warm_up(lambda given, mark: Coder(mark), spec())
    assert calls[0] is None
    assert calls[-1] is not None


def test_the_phantom_is_the_same_each_time_and_moves():
    first, second = (heart(3, 40, 30, np.dtype(np.int16)) for _ in range(2))
    assert (first == second).all()
    assert (first[0] != first[1]).any()
    assert first.min() >= 0
    assert 500 < first.max() < 1300
    assert heart(1, 40, 30, np.dtype(np.int8)).max() < 127


def test_a_clock_that_is_slowed_down_does_not_jump():
    now = {"monotonic": 0, "unix": 10**18}
    watch = JumpWatch(Clock(lambda: now["monotonic"], lambda: now["unix"]))
    jumps = []
    for drift_ns in (0, 50_000_000, 50_000_000, -150_000_000, 0, 101_000_000):
        now["monotonic"] += 10**9
        now["unix"] += 10**9 + drift_ns
        jumps.append(watch.read(0)[1])
    assert jumps == [False, False, False, True, False, True]


def test_an_instant_is_told_by_the_wall_clock():
    watch = JumpWatch(Clock(lambda: 500, lambda: 10**18))
    assert watch.read(300) == (10**18 - 200, False)
