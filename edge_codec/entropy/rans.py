"""Interleaved rANS: symbols to bytes and back, in nearly as few bits as their entropy.

How it works
------------
An entropy coder turns a sequence of symbols into one large integer. If all 10 digits were equally
likely, `x = 10 * x + digit` would append a digit, and `digit = x % 10`, `x = x // 10` would take
the last one off again: each digit multiplies `x` by 10, which costs log2(10) bits. Asymmetric
numeral systems (Duda 2009 and 2013, arXiv:1311.2540) do the same for symbols that are not equally
likely. A symbol that occurs `f` times in 65536 should multiply `x` by only `65536 / f`. So of every
65536 consecutive integers, `f` are set aside for it, those whose remainder modulo 65536 (the
*slot*) lies in `start <= slot < start + f`, and appending the symbol sends `x` to the `x`-th of
these::

    encode  x -> 65536 * (x // f) + start + x % f
    decode  x -> f * (x // 65536) + x % 65536 - start      (the slot, x % 65536, names the symbol)

`x` would soon need more bits than a register has. It is kept between 2**16 and 2**32: before a step
that would exceed this, the encoder moves the low 16 bits of `x` to the output; the decoder, finding
`x` below 2**16 after a step, moves 16 bits back. Both can tell from `x` alone when to do so.

The last symbol that went in comes out first, like a stack. The encoder therefore runs from the last
symbol to the first, and the decoder, which has to know the probabilities of what comes next from
what came before, runs forward.

One state is a chain of dependent multiplications. Symbol `i` goes to state `i % lanes`, and the
states, which are independent, share one stream of 16-bit words (Giesen 2014, arXiv:1402.3392).
Every lane costs about 3 bytes per payload.

The decoder must end where the encoder began: all words used, all states 2**16. Hence nearly every
damaged payload is recognized, and the payload of given symbols is unique. Two limits are inherent:
states of 32 bits with probabilities of 16 bits cost about 0.005 bit per symbol over the entropy,
and a payload says nothing about how many symbols it holds; the caller has to know.

`edge_codec.entropy.rans_reference` defines the same functions in plain Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.entropy import _rans
from edge_codec.entropy.arguments import (
    check_contexts,
    check_count,
    check_lanes,
    check_n_contexts,
    check_symbols,
)
from edge_codec.entropy.cdf import check_cdfs
from edge_codec.errors import BitstreamError, FrameError

DEFAULT_LANES = 8
Payload = bytes | bytearray | memoryview

# Codes of the enum in rans.h that input can cause once the arguments are checked.
_OK = 0
_REASONS = {
    2: "it ends before its symbols do",
    3: "a coder state lies outside its range",
    4: "it goes on after its last symbol, or ends in a wrong state",
}


def encode_static(
    symbols: NDArray[Any],
    cdfs: NDArray[np.uint32],
    contexts: NDArray[Any] | None = None,
    lanes: int = DEFAULT_LANES,
) -> bytes:
    """Code symbols with fixed distributions.

    Parameters
    ----------
    symbols : ndarray, any shape, uint8 or uint16
        Read in C order.
    cdfs : ndarray, shape (contexts, symbols + 1), uint32
        Cumulative frequencies, see `edge_codec.entropy.cdf`.
    contexts : ndarray, as many as symbols, uint8 or uint16, or None
        Row of `cdfs` for each symbol; None uses row 0 for all.
    lanes : int
        1, 2, 4, 8, 16 or 32 interleaved states.

    Returns
    -------
    bytes

    Raises
    ------
    FrameError
        If symbols or contexts have a wrong dtype or size, or a symbol has no probability.
    SpecError
        If a distribution or the number of lanes is invalid.

    Examples
    --------
    >>> cdfs = np.array([[0, 60000, 65536]], np.uint32)
    >>> payload = encode_static(np.zeros(1000, np.uint8), cdfs, lanes=1)
    >>> len(payload)
    20
    >>> int(decode_static(payload, 1000, cdfs, lanes=1).sum())
    0
    """
    table = check_cdfs(cdfs)
    flat = check_symbols(symbols, wide=True)
    indices = check_contexts(contexts, flat.size, len(table))
    payload = _rans.encode_static(
        flat, flat.itemsize == 2, indices, table, len(table), check_lanes(lanes)
    )
    if isinstance(payload, int):
        raise FrameError(
            f"a symbol has no probability (largest symbol {int(flat.max())}, {table.shape[1] - 1} "
            "in the table); normalize the counts with keep_all or use another table"
        )
    return payload


def decode_static(
    payload: Payload,
    count: int,
    cdfs: NDArray[np.uint32],
    contexts: NDArray[Any] | None = None,
    lanes: int = DEFAULT_LANES,
) -> NDArray[Any]:
    """Decode what `encode_static` coded with the same `cdfs`, `contexts` and `lanes`.

    Parameters
    ----------
    payload : bytes, bytearray or memoryview
    count : int
        Number of symbols.

    Returns
    -------
    ndarray, shape (count,), uint8 if the table has at most 256 symbols, else uint16

    Raises
    ------
    BitstreamError
        If the payload is not that of `count` symbols.
    FrameError, SpecError
        As in `encode_static`.
    """
    table = check_cdfs(cdfs)
    indices = check_contexts(contexts, check_count(count), len(table))
    wide = table.shape[1] > 257
    out = np.empty(count, np.uint16 if wide else np.uint8)
    status = _rans.decode_static(payload, out, wide, indices, table, len(table), check_lanes(lanes))
    raise_status(status, count)
    return out


def encode_adaptive(
    symbols: NDArray[np.uint8],
    contexts: NDArray[Any] | None = None,
    n_contexts: int = 1,
    lanes: int = DEFAULT_LANES,
) -> bytes:
    """Code symbols of 0 to 15 with distributions that follow them.

    Each context starts uniform and moves towards every symbol it sees, fast at first; the decoder
    repeats this, so no table is sent.

    Parameters
    ----------
    symbols : ndarray, any shape, uint8, 0 to 15
        Read in C order.
    contexts : ndarray, as many as symbols, uint8 or uint16, or None
        Distribution of each symbol; None uses one for all.
    n_contexts : int
        Number of distributions, 1 to 65536.
    lanes : int
        1, 2, 4, 8, 16 or 32 interleaved states.

    Returns
    -------
    bytes

    Raises
    ------
    FrameError
        If symbols or contexts have a wrong dtype, size or value.
    SpecError
        If the number of contexts or lanes is invalid.
    """
    flat = check_symbols(symbols, wide=False)
    indices = check_contexts(contexts, flat.size, check_n_contexts(n_contexts))
    payload = _rans.encode_adaptive(flat, indices, n_contexts, check_lanes(lanes))
    if isinstance(payload, int):
        raise FrameError(f"symbol {int(flat.max())}; adaptive coding has symbols 0 to 15")
    return payload


def decode_adaptive(
    payload: Payload,
    count: int,
    contexts: NDArray[Any] | None = None,
    n_contexts: int = 1,
    lanes: int = DEFAULT_LANES,
) -> NDArray[np.uint8]:
    """Decode what `encode_adaptive` coded with the same `contexts`, `n_contexts` and `lanes`.

    Parameters
    ----------
    payload : bytes, bytearray or memoryview
    count : int
        Number of symbols.

    Returns
    -------
    ndarray, shape (count,), uint8, 0 to 15

    Raises
    ------
    BitstreamError
        If the payload is not that of `count` symbols.
    FrameError, SpecError
        As in `encode_adaptive`.
    """
    indices = check_contexts(contexts, check_count(count), check_n_contexts(n_contexts))
    out = np.empty(count, np.uint8)
    raise_status(
        _rans.decode_adaptive(payload, out, indices, n_contexts, check_lanes(lanes)), count
    )
    return out


def raise_status(status: int, count: int) -> None:
    """Raise the error that a decoder in C reported.

    Raises
    ------
    BitstreamError
        Unless `status` is 0.
    """
    if status != _OK:
        reason = _REASONS.get(status, f"decoder status {status}")
        raise BitstreamError(
            f"entropy-coded payload is not that of {count} symbols: {reason}; "
            "it is damaged, or was coded with other tables"
        )
