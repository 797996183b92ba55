from typing import Any

from numpy.typing import NDArray

def encode(
    tables: tuple[NDArray[Any], ...],
    n_clusters: int,
    n_leaves: int,
    tokens: NDArray[Any],
    previous: NDArray[Any] | None,
    h: int,
    w: int,
    /,
) -> bytes | int: ...
def decode(
    tables: tuple[NDArray[Any], ...],
    n_clusters: int,
    n_leaves: int,
    payload: bytes | bytearray | memoryview,
    out: NDArray[Any],
    previous: NDArray[Any] | None,
    h: int,
    w: int,
    /,
) -> int: ...
