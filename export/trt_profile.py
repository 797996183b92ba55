"""The shapes that an engine of TensorRT is built for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from edge_codec.base.vqvae import STRIDE
from edge_codec.errors import EngineError

MAX_SIDE = 1024

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes that an engine takes.

    Attributes
    ----------
    shapes : mapping of str to (tuple, tuple, tuple)
        By input: the smallest, the one to be fast for, the largest.
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {' '.join('x'.join(map(str, shape)) for shape in shapes)}"
            for name, shapes in self.shapes.items()
        )


def frame_profile(proto: onnx.ModelProto, rows: int, columns: int, batch: int = 1) -> Profile:
    """Return the shapes of frames for a network of the codec.

    Parameters
    ----------
    proto : onnx.ModelProto
        Its dynamic inputs are frames (n, 1, rows, columns), or tokens (n, rows, columns) of blocks
        of `STRIDE` pixels.
    rows, columns : int
        Frame to be fast for, rounded up to whole blocks; any up to `MAX_SIDE` will run.
    batch : int
        Largest number of frames at a time.

    Raises
    ------
    EngineError
        If an input is neither, or the sizes are out of range.
    """
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE and 1 <= batch <= 256):
        raise EngineError(
            f"frames of {batch} x {rows} x {columns}: use sides of 1 to {MAX_SIDE} and batches of "
            "1 to 256"
        )
    blocks = (-(-rows // STRIDE), -(-columns // STRIDE))
    largest = MAX_SIDE // STRIDE
    found: dict[str, tuple[Shape, Shape, Shape]] = {}
    for value in proto.graph.input:
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if all(sizes):
            continue
        shapes: list[Shape]
        if len(sizes) == 3:
            shapes = [(1, 1, 1), (1, *blocks), (batch, largest, largest)]
        elif len(sizes) == 4 and sizes[1] == 1:
            sides = [(STRIDE, STRIDE), tuple(STRIDE * n for n in blocks), (MAX_SIDE, MAX_SIDE)]
            shapes = [(n, 1, *side) for n, side in zip((1, 1, batch), sides, strict=True)]
        else:
            raise EngineError(
                f"input '{value.name}' of {len(sizes)} axes is neither frames nor tokens; export "
                "it with fixed sizes"
            )
        low, usual, high = (
            tuple(size or free for size, free in zip(sizes, shape, strict=True)) for shape in shapes
        )
        found[value.name] = (low, usual, high)
    return Profile(found)
