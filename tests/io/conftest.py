import numpy as np
import pytest

from edge_codec.io import open_sink, open_source
from edge_codec.io.statistics import scan
from edge_codec.spec import StreamSpec


def stream_spec(source, **changes):
    values = scan(source)
    return StreamSpec(source.info, values.low, values.high, **changes)


def copy_cine(source, target, *, force=False, lossy_ratio=None, change=None, **spec):
    """Write what a source gives into a sink, as a codec without loss, or with `change`, would."""
    source = open_source(source) if not hasattr(source, "frames") else source
    sink = open_sink(target, stream_spec(source, **spec), force=force, lossy_ratio=lossy_ratio)
    with sink:
        for frame in source.frames():
            samples = frame.samples if change is None else change(frame.samples)
            sink.write(frame.slice_index, frame.phase_index, samples, frame.metadata)
    return source


def read_frames(path):
    return np.stack([frame.samples for frame in open_source(path).frames()])


@pytest.fixture
def copy():
    return copy_cine


@pytest.fixture
def read():
    return read_frames


@pytest.fixture
def spec_of():
    return stream_spec
