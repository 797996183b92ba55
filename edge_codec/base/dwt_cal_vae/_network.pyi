from typing import Any

import numpy as np
from numpy.typing import NDArray

def features() -> dict[str, bool]: ...
def load(
    shape: tuple[int, int, int, int, bool, bool],
    weights: NDArray[np.int16],
    shift: NDArray[np.int32],
    /,
) -> Any: ...
def run(
    layer: Any,
    image: NDArray[np.int16],
    rows: int,
    columns: int,
    bias: NDArray[np.int32],
    addend: NDArray[np.int16] | None,
    result: NDArray[np.int16],
    /,
) -> None: ...
def write(
    contexts: NDArray[np.uint8], values: NDArray[np.int16], table: NDArray[np.uint32], /
) -> bytes: ...
def open(payload: bytes, table: NDArray[np.uint32], /) -> Any: ...
def read(reader: Any, contexts: NDArray[np.uint8], values: NDArray[np.int16], /) -> bool: ...
def close(reader: Any, /) -> bool: ...
