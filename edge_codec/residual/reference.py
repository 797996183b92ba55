"""Plain Python twin of the residual layer's decoder: the same frames from the same bytes, no C.

This is the readable definition of the payload, line by line beside section 11 of
`docs/bitstream.md`. It takes some 50 microseconds per voxel and is meant for tests and readers.
Every number is a Python integer, so nothing can wrap or round.

A frame is cut into horizontal bands that know nothing of each other. The payload of a band is a
mode byte and either the samples themselves (raw), or a segment of rANS symbols and one of plain
bits (coded): the coefficients of the predictor, then, voxel by voxel, what the predictor missed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_codec.entropy.rans_reference import AdaptiveCdf, Decoder
from edge_codec.errors import BitstreamError, FrameError

BAND_ROWS, MAX_BANDS = 96, 8
MODE_CODED, MODE_RAW = 0, 1
LANES = 2
N_CONTEXTS = 48
ESCAPE = 15
COEFFICIENT_BITS = 12
MAX_WEIGHT = 32767  # of all coefficients together: sums of 16 bit samples stay within 32 bits
MAX_MAGNITUDE = (1 << 27) - 1  # 18 of them stay within 32 bits
PAD = 2

Plane = list[list[int]]
Place = tuple[int, int]

CAUSAL: tuple[Place, ...] = (
    *((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2)),
    *((-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1)),
)
CROSS: tuple[Place, ...] = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
DIAMOND: tuple[Place, ...] = (
    *CROSS,
    *((1, 1), (1, -1), (-1, 1), (-1, -1)),
    *((0, 2), (2, 0), (0, -2), (-2, 0)),
)


class Symbols:
    """The symbols of a payload, symbol i in lane i % LANES, and the plain bits beside them."""

    def __init__(self, payload: bytes) -> None:
        if len(payload) < 4:
            raise BitstreamError("a coded band ends inside its head")
        (size,) = struct.unpack_from("<I", payload)
        if size > len(payload) - 4:
            raise BitstreamError(f"rANS segment of {size} bytes; {len(payload) - 4} are left")
        self.decoder = Decoder(payload[4 : 4 + size], LANES)
        self.symbols_taken = 0
        self.plain = int.from_bytes(payload[4 + size :], "little")
        self.plain_size = 8 * (len(payload) - 4 - size)
        self.bits_taken = 0

    def adaptive(self, model: AdaptiveCdf) -> int:
        """Take a symbol of an adaptive distribution, which learns it."""
        lane = self.symbols_taken % LANES
        self.symbols_taken += 1
        symbol = model.find(self.decoder.peek(lane))
        self.decoder.advance(lane, *model.pair(symbol))
        model.update(symbol)
        return symbol

    def bits(self, n: int) -> int:
        """Take n plain bits, the lowest first."""
        value = self.plain >> self.bits_taken & ((1 << n) - 1)
        self.bits_taken += n
        if self.bits_taken > self.plain_size:
            raise BitstreamError(f"segment of {self.plain_size} plain bits ends too early")
        return value

    def number(self, model: AdaptiveCdf) -> int:
        """Take a number of unknown size: the length of number + 1 less one, then its low bits."""
        length = self.adaptive(model)
        if length == ESCAPE:
            length += self.bits(5)
        return self.bits(length) + (1 << length) - 1

    def finish(self) -> None:
        """Refuse a payload that holds anything else."""
        self.decoder.finish()
        if self.plain_size - self.bits_taken >= 8 or self.plain >> self.bits_taken:
            raise BitstreamError("plain bits go on after the last voxel")


class ReferenceDecoder:
    """Twin of `edge_codec.residual.ResidualDecoder`.

    Parameters
    ----------
    rows, columns : int
        Size of a frame.
    span : int
        Largest sample, below 2**32.
    max_error : int
        Bound of the difference of any voxel, 0 for lossless.
    with_base : bool
        Whether every frame comes with a base.
    """

    def __init__(self, rows: int, columns: int, span: int, max_error: int, with_base: bool) -> None:
        self.with_base = with_base
        self.begun = False
        count = max(1, min(MAX_BANDS, rows // BAND_ROWS))
        self.cuts = [rows * i // count for i in range(count + 1)]
        self.bands = [
            BandDecoder(end - start, columns, span, max_error)
            for start, end in zip(self.cuts, self.cuts[1:], strict=False)
        ]

    def decode(
        self, payload: bytes, base: NDArray[np.uint32] | None, key: bool
    ) -> NDArray[np.uint32]:
        """Return the next frame, shape (rows, columns), uint32.

        Raises
        ------
        BitstreamError
            If the payload is damaged, or no key frame came before.
        FrameError
            If a base is missing or not expected.
        """
        if (base is not None) != self.with_base:
            raise FrameError("a base frame is missing or not expected")
        if not key and not self.begun:
            raise BitstreamError("a predicted frame came before any key frame of its slice")
        self.begun = False  # until the frame is whole
        frame: Plane = []
        parts = split(payload, len(self.bands))
        for band, part, start in zip(self.bands, parts, self.cuts, strict=False):
            part_of_base = None if base is None else base[start : start + band.rows].tolist()
            frame += band.decode(part, part_of_base, key)
        self.begun = True
        return np.array(frame, np.uint32)


def split(payload: bytes, count: int) -> list[bytes]:
    """Return the payload of each band: the sizes of all but the last one come first."""
    start = 4 * (count - 1)
    if len(payload) < start:
        raise BitstreamError("a residual payload ends inside its sizes")
    parts = []
    for (size,) in struct.iter_unpack("<I", payload[:start]):
        if size > len(payload) - start:
            raise BitstreamError(f"a band of {size} bytes; {len(payload) - start} are left")
        parts.append(payload[start : start + size])
        start += size
    return [*parts, payload[start:]]


class BandDecoder:
    """Decodes one band of every frame; the parameters are those of the frame."""

    def __init__(self, rows: int, columns: int, span: int, max_error: int) -> None:
        self.rows, self.columns = rows, columns
        self.span, self.step = span, 2 * max_error + 1
        self.largest_code = 2 * ((span + max_error) // self.step)  # no encoder needs more
        self._start_group()

    def _start_group(self) -> None:
        """Forget everything: a key frame is decoded without other frames."""
        self.decoded: list[Plane] = []  # padded, the latest first, at most two
        self.magnitudes = self._zeros()
        self.contexts = [AdaptiveCdf() for _ in range(N_CONTEXTS)]
        self.escape, self.coefficient = AdaptiveCdf(), AdaptiveCdf()
        self.coefficients: list[int] = []

    def decode(self, payload: bytes, base: Plane | None, key: bool) -> Plane:
        """Return the lines of the next frame."""
        if key:
            self._start_group()
        mode = payload[0] if payload else None
        if mode == MODE_RAW:
            frame = self._unpack_raw(payload[1:])
            self.magnitudes = self._zeros()
        elif mode == MODE_CODED:
            frame = self._decode_coded(payload[1:], base)
        else:
            raise BitstreamError(f"mode of a residual payload is {mode}, not 0 or 1")
        self.decoded = [pad(frame), *self.decoded][:2]
        return frame

    def _unpack_raw(self, packed: bytes) -> Plane:
        """Return samples of as many bits as the span has, lowest bits first."""
        bits, n = self.span.bit_length(), self.rows * self.columns
        if len(packed) != (n * bits + 7) // 8:
            raise BitstreamError(f"{len(packed)} bytes of raw samples; {(n * bits + 7) // 8} due")
        number = int.from_bytes(packed, "little")
        samples = [number >> bits * i & ((1 << bits) - 1) for i in range(n)]
        if number >> bits * n or max(samples) > self.span:
            raise BitstreamError("raw samples are above the span, or the padding is not zero")
        return [samples[i : i + self.columns] for i in range(0, n, self.columns)]

    def _decode_coded(self, payload: bytes, base: Plane | None) -> Plane:
        """Return samples predicted by a filter that the payload brings, and corrected."""
        symbols = Symbols(payload)
        work = self._open_frame()
        taps = self._list_taps(work, base)
        self._read_coefficients(symbols, len(taps))
        magnitudes = self._zeros()
        for row in range(PAD, self.rows + PAD):
            work[row][0] = work[row][1] = work[row - 1][PAD]
            for column in range(PAD, self.columns + PAD):
                predicted = self._predict(taps, row, column)
                level = self._read_level(symbols, self._energy(magnitudes, row, column))
                work[row][column] = clip(predicted + level * self.step, self.span)
                magnitudes[row][column] = min(16 * abs(level), MAX_MAGNITUDE)
            work[row][-2] = work[row][-1] = work[row][-3]
        symbols.finish()
        self.magnitudes = magnitudes
        return [line[PAD:-PAD] for line in work[PAD:-PAD]]

    def _open_frame(self) -> Plane:
        """Return the frame in work: above it the previous frame's first row, or zeros."""
        work = self._zeros()
        if self.decoded:
            work[0], work[1] = list(self.decoded[0][PAD]), list(self.decoded[0][PAD])
        return work

    def _list_taps(self, work: Plane, base: Plane | None) -> list[tuple[Plane, Place]]:
        """Planes and places that the coefficients belong to, in the order of the payload."""
        taps = [(self.decoded[0], place) for place in DIAMOND] if self.decoded else []
        taps += [(work, place) for place in CAUSAL]
        if len(self.decoded) == 2:
            taps += [(self.decoded[1], place) for place in CROSS]
        if base is not None:
            taps += [(pad(base), place) for place in CROSS]
        return taps

    def _read_coefficients(self, symbols: Symbols, n: int) -> None:
        """Differences from the latest coefficients, where these are as many, else from 0."""
        latest = self.coefficients if len(self.coefficients) == n else [0] * n
        coefficients = []
        for value in latest:
            code = symbols.number(self.coefficient)
            value += unzigzag(code)
            coefficients.append(value)
            if code > 1 << 18 or sum(map(abs, coefficients)) > MAX_WEIGHT:
                raise BitstreamError(f"coefficients of a predictor are too large: {coefficients}")
        self.coefficients = coefficients

    def _predict(self, taps: Sequence[tuple[Plane, Place]], row: int, column: int) -> int:
        """Filter in units of 2^-12, rounded to the nearest, halves up."""
        total = 1 << (COEFFICIENT_BITS - 1)
        for coefficient, (plane, (dy, dx)) in zip(self.coefficients, taps, strict=True):
            total += coefficient * plane[row + dy][column + dx]
        return clip(total >> COEFFICIENT_BITS, self.span)

    def _energy(self, now: Plane, row: int, column: int) -> int:
        """Weighted mean of the magnitudes around a place, in sixteenths of a level."""
        total = 3 * (now[row][column - 1] + now[row - 1][column])
        total += 2 * (now[row - 1][column - 1] + now[row - 1][column + 1])
        total += now[row][column - 2] + now[row - 2][column]
        before = self.magnitudes
        if self.decoded:
            total += 2 * before[row][column] + before[row][column + 1] + before[row][column - 1]
            total += before[row - 1][column] + before[row + 1][column]
        else:
            total += total // 2
        return total // 16

    def _read_level(self, symbols: Symbols, energy: int) -> int:
        """Take the quantized difference of a voxel from its prediction."""
        v = energy + 4
        octave = v.bit_length() - 1
        context = min(4 * (octave - 2) + (v >> (octave - 2)) % 4, N_CONTEXTS - 1)
        shift = max(octave - 4, 0)
        high = symbols.adaptive(self.contexts[context])
        if high == ESCAPE:
            high += symbols.number(self.escape)
        code = high << shift | symbols.bits(shift)
        if code > self.largest_code:
            raise BitstreamError(f"code {code} of a level is above {self.largest_code}")
        return unzigzag(code)

    def _zeros(self) -> Plane:
        return [[0] * (self.columns + 2 * PAD) for _ in range(self.rows + 2 * PAD)]


def pad(frame: Plane) -> Plane:
    """Repeat the edge of a whole frame into its padding."""
    lines = [[line[0]] * PAD + line + [line[-1]] * PAD for line in frame]
    return [lines[0]] * PAD + lines + [lines[-1]] * PAD


def unzigzag(code: int) -> int:
    """Return the signed number of a code: 0, 1, 2, 3, 4 are 0, -1, 1, -2, 2."""
    return code >> 1 ^ -(code & 1)


def clip(value: int, span: int) -> int:
    """Return the nearest number from 0 to span."""
    return min(max(value, 0), span)
