"""Plain Python twin of `edge_codec.entropy.rans`: the same functions, the same bytes, no C.

This is the readable definition of the payload. It is slow (about a microsecond per symbol and more)
and meant for tests and for readers.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.entropy.arguments import (
    check_contexts,
    check_count,
    check_lanes,
    check_n_contexts,
    check_symbols,
)
from edge_codec.entropy.cdf import CDF_TOTAL, check_cdfs
from edge_codec.errors import BitstreamError, FrameError

LOW = 1 << 16
"""Lower bound of every coder state between two symbols."""

ADAPTIVE_SYMBOLS = 16
ADAPTIVE_FLOOR = 8
ADAPTIVE_RATE_STEPS = (4, 12, 30, 100, 300)
"""Numbers of seen symbols at which the rate rises by one."""


def encode_pairs(pairs: Iterable[tuple[int, int]], lanes: int) -> bytes:
    """Code symbols given as (start, frequency), the first of them first."""
    states = [LOW] * lanes
    words = []
    sequence = list(pairs)
    for i in reversed(range(len(sequence))):
        start, frequency = sequence[i]
        x = states[i % lanes]
        if x >> 16 >= frequency:
            words.append(x & 0xFFFF)
            x >>= 16
        states[i % lanes] = (x // frequency << 16) + x % frequency + start
    # The decoder needs the word that was written last first.
    return struct.pack(f"<{lanes}I{len(words)}H", *states, *reversed(words))


class Decoder:
    """States and words of a payload; `peek` and `advance` alternate, `finish` checks the end."""

    def __init__(self, payload: bytes, lanes: int) -> None:
        n_words, odd = divmod(len(payload) - 4 * lanes, 2)
        if n_words < 0 or odd:
            raise BitstreamError(f"payload of {len(payload)} bytes does not fit {lanes} lanes")
        numbers = struct.unpack(f"<{lanes}I{n_words}H", payload)
        self.states: list[int] = list(numbers[:lanes])
        self.words: tuple[int, ...] = numbers[lanes:]
        self.position = 0
        if min(self.states) < LOW:
            raise BitstreamError(f"coder state {min(self.states)} is below {LOW}")

    def peek(self, lane: int) -> int:
        """Slot, 0 to 65535, that the next symbol of the lane contains."""
        return self.states[lane] & 0xFFFF

    def advance(self, lane: int, start: int, frequency: int) -> None:
        """Take the symbol off that was found with `peek`."""
        x = self.states[lane]
        x = frequency * (x >> 16) + (x & 0xFFFF) - start
        if x < LOW:
            if self.position == len(self.words):
                raise BitstreamError(f"payload ends after {len(self.words)} words, more are needed")
            x = x << 16 | self.words[self.position]
            self.position += 1
        self.states[lane] = x

    def finish(self) -> None:
        """Refuse a payload that holds anything else."""
        if self.position != len(self.words) or any(state != LOW for state in self.states):
            raise BitstreamError(f"payload goes on after its symbols (word {self.position})")


class AdaptiveCdf:
    """Distribution of 16 symbols that follows what it sees.

    Every start moves by a fraction `2**-rate` of its distance to where it would be if the symbol
    seen had all the probability but the floor, 8 of 65536, for each other symbol.
    """

    def __init__(self) -> None:
        self.starts = [CDF_TOTAL // ADAPTIVE_SYMBOLS * i for i in range(ADAPTIVE_SYMBOLS)]
        self.count = 0

    def find(self, slot: int) -> int:
        """Symbol that contains the slot."""
        return bisect_right(self.starts, slot) - 1

    def pair(self, symbol: int) -> tuple[int, int]:
        """(start, frequency) of a symbol."""
        end = self.starts[symbol + 1] if symbol + 1 < ADAPTIVE_SYMBOLS else CDF_TOTAL
        return self.starts[symbol], end - self.starts[symbol]

    def update(self, symbol: int) -> None:
        """Move towards a symbol."""
        rate = 3 + sum(self.count >= step for step in ADAPTIVE_RATE_STEPS)
        for i, start in enumerate(self.starts):
            if i <= symbol:
                self.starts[i] -= (start - ADAPTIVE_FLOOR * i) >> rate
            else:
                most = CDF_TOTAL - ADAPTIVE_FLOOR * (ADAPTIVE_SYMBOLS - i)
                self.starts[i] += (most - start) >> rate
        self.count += 1


def encode_static(
    symbols: NDArray[Any],
    cdfs: NDArray[np.uint32],
    contexts: NDArray[Any] | None = None,
    lanes: int = 8,
) -> bytes:
    """Twin of `edge_codec.entropy.rans.encode_static`."""
    table = check_cdfs(cdfs)
    flat = check_symbols(symbols, wide=True)
    rows = _rows(contexts, flat.size, len(table))
    pairs = []
    for symbol, row in zip(flat.tolist(), rows, strict=True):
        if symbol + 1 >= table.shape[1] or table[row, symbol] == table[row, symbol + 1]:
            raise FrameError(f"symbol {symbol} has no probability in context {row}")
        pairs.append((int(table[row, symbol]), int(table[row, symbol + 1] - table[row, symbol])))
    return encode_pairs(pairs, check_lanes(lanes))


def decode_static(
    payload: bytes,
    count: int,
    cdfs: NDArray[np.uint32],
    contexts: NDArray[Any] | None = None,
    lanes: int = 8,
) -> NDArray[Any]:
    """Twin of `edge_codec.entropy.rans.decode_static`."""
    table = check_cdfs(cdfs).tolist()
    rows = _rows(contexts, check_count(count), len(table))
    decoder = Decoder(bytes(payload), check_lanes(lanes))
    symbols = []
    for i, row in enumerate(rows):
        cdf = table[row]
        # The last start that is not above the slot: symbols of frequency 0 are passed over.
        symbol = bisect_right(cdf, decoder.peek(i % lanes)) - 1
        decoder.advance(i % lanes, cdf[symbol], cdf[symbol + 1] - cdf[symbol])
        symbols.append(symbol)
    decoder.finish()
    return np.array(symbols, np.uint16 if len(table[0]) > 257 else np.uint8)


def encode_adaptive(
    symbols: NDArray[np.uint8],
    contexts: NDArray[Any] | None = None,
    n_contexts: int = 1,
    lanes: int = 8,
) -> bytes:
    """Twin of `edge_codec.entropy.rans.encode_adaptive`."""
    flat = check_symbols(symbols, wide=False)
    models = [AdaptiveCdf() for _ in range(check_n_contexts(n_contexts))]
    pairs = []
    for symbol, row in zip(flat.tolist(), _rows(contexts, flat.size, n_contexts), strict=True):
        if symbol >= ADAPTIVE_SYMBOLS:
            raise FrameError(f"symbol {symbol}; adaptive coding has symbols 0 to 15")
        pairs.append(models[row].pair(symbol))
        models[row].update(symbol)
    return encode_pairs(pairs, check_lanes(lanes))


def decode_adaptive(
    payload: bytes,
    count: int,
    contexts: NDArray[Any] | None = None,
    n_contexts: int = 1,
    lanes: int = 8,
) -> NDArray[np.uint8]:
    """Twin of `edge_codec.entropy.rans.decode_adaptive`."""
    rows = _rows(contexts, check_count(count), check_n_contexts(n_contexts))
    models = [AdaptiveCdf() for _ in range(n_contexts)]
    decoder = Decoder(bytes(payload), check_lanes(lanes))
    symbols = []
    for i, row in enumerate(rows):
        symbol = models[row].find(decoder.peek(i % lanes))
        decoder.advance(i % lanes, *models[row].pair(symbol))
        models[row].update(symbol)
        symbols.append(symbol)
    decoder.finish()
    return np.array(symbols, np.uint8)


def _rows(contexts: NDArray[Any] | None, count: int, n_contexts: int) -> list[int]:
    """Context of each symbol."""
    indices = check_contexts(contexts, count, n_contexts)
    return [0] * count if indices is None else indices.tolist()
