from typing import Any

import numpy as np
from numpy.typing import NDArray

def new(rows: int, columns: int, span: int, bound: int, with_base: bool) -> Any: ...
def encode(
    state: Any, frame: NDArray[np.uint32], base: NDArray[np.uint32] | None, key: bool
) -> tuple[bytes, bytes]: ...
def decode(
    state: Any, payload: bytes, base: NDArray[np.uint32] | None, key: bool
) -> bytes | None: ...
