from typing import Any

import numpy as np
from numpy.typing import NDArray

def new(
    rows: int, columns: int, span: int, bound: int, with_base: bool, effort: int
) -> Any: ...
def encode(
    state: Any,
    frame: NDArray[np.uint32],
    base: NDArray[np.uint32] | None,
    key: bool,
    decoded: NDArray[np.uint32],
    bound: int,
) -> bytes: ...
def commit(state: Any) -> None: ...
def decode(
    state: Any,
    payload: bytes,
    base: NDArray[np.uint32] | None,
    key: bool,
    decoded: NDArray[np.uint32],
) -> bool: ...
def use_avx2(wanted: bool) -> bool: ...
