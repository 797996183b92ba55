from typing import Any

import numpy as np
from numpy.typing import NDArray

def nearest(
    latents: NDArray[np.int8],
    centers: NDArray[np.float32],
    center_offsets: NDArray[np.float32],
    codes: NDArray[np.float32],
    code_offsets: NDArray[np.float32],
    dim: int,
    probes: int,
    tokens: NDArray[np.uint16],
    /,
) -> Any: ...
def nearest_vnni(
    latents: NDArray[np.int8],
    centers: NDArray[np.float32],
    center_offsets: NDArray[np.float32],
    codes: NDArray[np.int8],
    code_offsets: NDArray[np.int32],
    dim: int,
    probes: int,
    tokens: NDArray[np.uint16],
    /,
) -> Any: ...
def has_vnni() -> bool: ...
