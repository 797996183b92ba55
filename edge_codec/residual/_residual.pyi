from typing import NewType

import numpy as np
from numpy.typing import NDArray

State = NewType("State", object)

def new(
    rows: int,
    columns: int,
    span: int,
    bound: int,
    with_base: bool,
    effort: int,
    inside: bytes = b"",
    region_bound: int = 0,
    /,
) -> State: ...
def encode(
    state: State,
    frame: NDArray[np.uint32],
    base: NDArray[np.uint32] | None,
    key: bool,
    decoded: NDArray[np.uint32],
    bound: int,
    give_up: int,
    /,
) -> bytes: ...
def commit(state: State, /) -> None: ...
def decode(
    state: State,
    payload: bytes,
    base: NDArray[np.uint32] | None,
    key: bool,
    decoded: NDArray[np.uint32],
    /,
) -> bool: ...
def features() -> dict[str, bool]: ...
