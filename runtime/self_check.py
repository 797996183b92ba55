"""Does an engine give the integers that it must? Compared with the CPU, once, when it is loaded.

The bits of a stream depend on integer networks. On the CPU backends these are proven and tested
exact; a GPU library chooses its arithmetic on the user's machine, where no test of ours has been.
So its first output is compared, and an engine that is wrong is refused before it codes a frame.
That is a sample, not a proof: it finds a wrong kernel, not a rounding that goes wrong once in a
million.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.base.vqvae import VqvaeCoder, VqvaeModel
from edge_codec.engine import Engine, FrameEncoder
from edge_codec.errors import BitstreamError, EngineError
from edge_codec.runtime.ort_backend import OrtEngine
from edge_codec.spec import CineInfo, StreamSpec

FRAME = (16, 24)
"""Size of the two frames on which a coder of whole frames is compared."""

SIDE = 32
"""Size of the sample along every axis that may have any, but the first, where it is 1."""

TYPES: dict[str, type[np.integer[Any]]] = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
}
MAX_LEVELS = 1024  # of an int32 input: indices into a table whose length the network knows alone
MAX_ELEMENTS = 1 << 24


def check_integers(engine: Engine, model: bytes) -> None:
    """Compare an engine with ONNX Runtime on the CPU; networks of float output are not compared.

    Parameters
    ----------
    engine : Engine
    model : bytes
        ONNX file of its network.

    Raises
    ------
    EngineError
        If an element differs, or either of them fails.
    """
    reference = OrtEngine(model, threads=1)
    source, shape, result = reference.signature
    free = [1, *[SIDE] * len(shape)]
    sizes = tuple(n if isinstance(n, int) else free[axis] for axis, n in enumerate(shape))
    if source not in TYPES or result not in TYPES or math.prod(sizes) > MAX_ELEMENTS:
        return
    sample, expected = _sample(reference, TYPES[source], sizes)
    found = engine.run(sample)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        raise EngineError(
            f"{engine.name} gives {found.dtype} {found.shape} where the CPU gives "
            f"{expected.dtype} {expected.shape}; use another backend"
        )
    wrong = int((found != expected).sum())
    if wrong:
        raise EngineError(
            f"{engine.name} gives other integers than the CPU ({wrong} of {expected.size} on a "
            "fixed input), so that streams would decode wrongly; use another backend"
        )


def check_frames(make: Callable[[StreamSpec], FrameEncoder], cpu: VqvaeModel) -> None:
    """Compare a coder of whole frames with the CPU, on a key frame and one predicted from it.

    What the CPU decodes of its payload must be the base frame that it reports: otherwise it would
    write streams that no other machine decodes.

    Parameters
    ----------
    make : callable
        Makes the coder of a stream.
    cpu : VqvaeModel
        The model for decoding, on the CPU.

    Raises
    ------
    EngineError
        If a frame differs, or the coder fails.
    """
    info = CineInfo(1, 2, *FRAME, dtype=np.dtype(np.uint16))
    spec = StreamSpec(info, low=0, high=1023, window_low=0, window_high=800)
    coder, decoder = make(spec), VqvaeCoder(cpu, spec)
    index = np.arange(math.prod(FRAME), dtype=np.uint64)
    noise = (index * 2654435761 % 2**32 >> 22).astype(np.uint32).reshape(FRAME)
    for phase, frame in enumerate((noise, noise[::-1].copy())):
        payload, base = coder.encode(frame, phase == 0)
        try:
            agrees = np.array_equal(decoder.decode(payload, phase, phase == 0), base)
        except BitstreamError:
            agrees = False
        if not agrees:
            raise EngineError(
                "the GPU codes a frame that the CPU decodes otherwise, so that streams would be "
                "lost; use another backend, and report this"
            )


def _sample(
    reference: Engine, kind: type[np.integer[Any]], sizes: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return an input that looks random and is always the same, and the CPU's output for it."""
    index = np.arange(math.prod(sizes), dtype=np.uint64)
    noise = (index * 2654435761 % 2**32 >> 16).astype(np.int64)  # Knuth's multiplicative hash
    levels = MAX_LEVELS
    while True:
        sample = (noise % levels).astype(kind).reshape(sizes)
        try:
            return sample, reference.run(sample)
        except EngineError:
            if levels == 1:
                raise
            levels //= 2  # an index beyond the end of the table
