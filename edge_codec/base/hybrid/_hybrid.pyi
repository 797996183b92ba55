from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.engine import Mapper

class Coder:
    def __init__(self, rows: int, columns: int, inside: bytes = b"", gain: int = 0) -> None: ...
    def encode(
        self,
        samples: NDArray[np.int16],
        quantizer: int,
        key: bool,
        references: Sequence[int],
        slot: int,
        effort: int,
        layer: int,
        mapper: Mapper | None,
        threads: int,
        /,
    ) -> bytes: ...
    def decode(
        self, payload: bytes, key: bool, references: Sequence[int], slot: int, /
    ) -> None: ...
    def frame(self, slot: int, out: NDArray[np.int16], /) -> None: ...
    def unfiltered(self, pixels: NDArray[np.int16], classes: NDArray[np.uint8], /) -> None: ...

def features() -> dict[str, bool]: ...
def filter_over_time(
    frame: NDArray[np.int16],
    others: Sequence[NDArray[np.int16]],
    quantizer: int,
    out: NDArray[np.int16],
    /,
) -> None: ...
