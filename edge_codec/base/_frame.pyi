from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]

def look_up_codes(
    samples: NDArray[np.uint32],
    table: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    size: Size,
    padded: Size,
    /,
) -> bool: ...
def look_up_samples(
    codes: NDArray[np.uint8],
    table: NDArray[np.uint32],
    samples: NDArray[np.uint32],
    size: Size,
    padded: Size,
    /,
) -> None: ...
def crc32(data: Any, /) -> int: ...
def has_clmul() -> bool: ...
