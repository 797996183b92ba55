from typing import Any

from numpy.typing import NDArray

def encode_static(
    symbols: NDArray[Any],
    wide: bool,
    contexts: NDArray[Any] | None,
    cdfs: NDArray[Any],
    n_contexts: int,
    lanes: int,
    /,
) -> bytes | int: ...
def decode_static(
    payload: bytes | bytearray | memoryview,
    out: NDArray[Any],
    wide: bool,
    contexts: NDArray[Any] | None,
    cdfs: NDArray[Any],
    n_contexts: int,
    lanes: int,
    /,
) -> int: ...
def encode_adaptive(
    symbols: NDArray[Any], contexts: NDArray[Any] | None, n_contexts: int, lanes: int, /
) -> bytes | int: ...
def decode_adaptive(
    payload: bytes | bytearray | memoryview,
    out: NDArray[Any],
    contexts: NDArray[Any] | None,
    n_contexts: int,
    lanes: int,
    /,
) -> int: ...
