from typing import Any

Sizes = tuple[int, int, int, int, int, bool]

def levels() -> list[str]: ...
def has_amx() -> bool: ...
def load(
    level: str,
    unpack: int,
    table: Any,
    layers: tuple[tuple[Sizes, Any, Any, Any], ...],
) -> object: ...
def run(
    network: object,
    source: Any,
    images: int,
    height: int,
    width: int,
    result: Any,
    threads: int,
) -> bool: ...
