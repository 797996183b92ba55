"""Image codecs of the package imagecodecs, frame by frame, and on frame differences.

The difference variants code each frame twice, as it is and minus the previous phase, and keep the
shorter stream behind one byte that says which: the cheapest way to give an image codec a time axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from edge_codec.bench.rd.case import Case
from edge_codec.bench.rd.levels import MAX_DEPTH, Levels, difference, undo_difference
from edge_codec.bench.rd.pieces import Decode, Encode, Parts, Piece, code_pieces, simple
from edge_codec.bench.rd.trial import Codec, Coded, Tier, Trial, UnavailableError, timed

Frame = NDArray[Any]
EncodeFrame = Callable[[Frame], bytes]
DecodeFrame = Callable[[bytes], Frame]

INTRA, INTER = b"\0", b"\1"

NEARS = (1, 2, 4, 8, 16, 32)
JPEG_2000_DB = (65, 60, 55, 50, 45, 40, 35, 30, 25)
# Quantizer step as a share of the 16-bit range: the only control of the rate there is.
HTJ2K_STEPS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
# Its binding knows whole bytes only and wraps what overshoots the top, so a bit is left free.
HTJ2K_DEPTH = 15
JPEG_XL_EFFORTS = (3, 7)
JPEG_XL_DISTANCES = (0.1, 0.3, 1.0, 3.0, 8.0, 25.0)


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """How imagecodecs offers a format.

    Attributes
    ----------
    name : str
        Of the codec on the bench.
    title : str
        Format and library, for people.
    prefix : str
        `<prefix>_encode` and `<prefix>_decode` are its functions.
    takes_threads, takes_depth : bool
        Whether the functions take `numthreads`, and the encoder `bitspersample`.
    fixed : mapping
        Options of the encoder for every setting.
    """

    name: str
    title: str
    prefix: str
    takes_threads: bool = False
    takes_depth: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def functions(
        self, options: Mapping[str, Any], bits: int, threads: int
    ) -> tuple[EncodeFrame, DecodeFrame]:
        """Return encoder and decoder for frames of so many significant bits.

        Raises
        ------
        UnavailableError
            If the installed imagecodecs was built without the format.
        """
        import imagecodecs

        built = getattr(imagecodecs, self.prefix.upper(), None)
        if built is None or not built.available:
            raise UnavailableError(f"imagecodecs {imagecodecs.__version__} has no {self.prefix}")
        shared = {"numthreads": threads} if self.takes_threads else {}
        depth = {"bitspersample": bits} if self.takes_depth else {}
        encode = partial(
            getattr(imagecodecs, f"{self.prefix}_encode"),
            **options,
            **self.fixed,
            **shared,
            **depth,
        )
        decode = partial(getattr(imagecodecs, f"{self.prefix}_decode"), **shared)
        return encode, decode


JPEG_LS = ImageFormat("jpeg-ls", "JPEG-LS (CharLS)", "jpegls")
JPEG_2000 = ImageFormat(
    "jpeg-2000", "JPEG 2000 (OpenJPEG)", "jpeg2k", True, True, {"codecformat": "J2K"}
)
HTJ2K = ImageFormat("htj2k", "High-Throughput JPEG 2000 (OpenJPH)", "htj2k")
JPEG_XL = ImageFormat("jpeg-xl", "JPEG XL (libjxl)", "jpegxl", True, True)

LOSSLESS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "jpeg-ls": {"lossless": {"level": 0}},
    "jpeg-2000": {"5/3 lossless": {"reversible": True}},
    "htj2k": {"lossless": {"reversible": True}},
    "jpeg-xl": {
        f"effort {effort} lossless": {"lossless": True, "effort": effort}
        for effort in JPEG_XL_EFFORTS
    },
}
LOSSY: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "jpeg-2000": {
        f"9/7 {target} dB": {"level": target, "reversible": False} for target in JPEG_2000_DB
    },
    "htj2k": {f"9/7 step {step:g}": {"level": step, "reversible": False} for step in HTJ2K_STEPS},
    # Effort 7 draws the same curve on cine and takes ten times as long.
    "jpeg-xl": {
        f"effort 3 distance {distance:g}": {"distance": distance, "effort": 3, "lossless": False}
        for distance in JPEG_XL_DISTANCES
    },
}


def codecs() -> list[Codec]:
    """Return each image codec, and each one's lossless modes on frame differences."""
    formats = (JPEG_LS, JPEG_2000, HTJ2K, JPEG_XL)
    plain = [
        Codec(form.name, f"{form.title}, frame by frame", ("imagecodecs",), partial(_trials, form))
        for form in formats
    ]
    differing = [
        Codec(
            f"{form.name}-difference",
            f"{form.title}, the shorter of frame and frame difference",
            ("imagecodecs",),
            partial(_difference_trials, form),
        )
        for form in formats
    ]
    return [*plain, *differing]


def _trials(form: ImageFormat, threads: int) -> Sequence[Trial]:
    used = threads if form.takes_threads else 1
    found = [
        Trial(setting, Tier.LOSSLESS, partial(_code_exact, form, options, used), 0, used)
        for setting, options in LOSSLESS[form.name].items()
    ]
    if form is JPEG_LS:
        for near in NEARS:
            code = partial(_code_exact, form, {"level": near}, used)
            found.append(Trial(f"near {near}", Tier.BOUNDED, code, near, used))
    for setting, options in LOSSY.get(form.name, {}).items():
        code = partial(_code_lossy, form, options, used)
        found.append(Trial(setting, Tier.LOSSY, code, None, used))
    return found


def _difference_trials(form: ImageFormat, threads: int) -> Sequence[Trial]:
    used = threads if form.takes_threads else 1
    return [
        Trial(setting, Tier.LOSSLESS, partial(_code_difference, form, options, used), 0, used)
        for setting, options in LOSSLESS[form.name].items()
    ]


def _code_exact(form: ImageFormat, options: Mapping[str, Any], threads: int, case: Case) -> Coded:
    return _code_frames(form, options, threads, Levels.exact(case), case)


def _code_lossy(form: ImageFormat, options: Mapping[str, Any], threads: int, case: Case) -> Coded:
    if form is HTJ2K:
        levels = Levels.filling(case, HTJ2K_DEPTH)
    elif case.bits > MAX_DEPTH:
        levels = Levels.filling(case)
    else:
        levels = Levels.exact(case)
    return _code_frames(form, options, threads, levels, case)


def _code_frames(
    form: ImageFormat, options: Mapping[str, Any], threads: int, levels: Levels, case: Case
) -> Coded:
    encode, decode = form.functions(options, min(case.bits, levels.depth), threads)
    codes = levels.encode(case.voxels)
    return levels.restore(code_pieces(codes, Piece.FRAME, *simple(encode, decode)))


def _code_difference(
    form: ImageFormat, options: Mapping[str, Any], threads: int, case: Case
) -> Coded:
    levels = Levels.exact(case)
    encode, decode = form.functions(options, case.bits, threads)
    coded = code_pieces(
        levels.encode(case.voxels),
        Piece.FRAME,
        lambda: _difference_encoder(encode, case.bits),
        lambda: _difference_decoder(decode, case.bits),
    )
    return levels.restore(coded)


def _difference_encoder(encode: EncodeFrame, bits: int) -> Encode:
    """Return an encoder of one slice's frames in the order of their phases."""
    previous: Frame | None = None

    def choose(frame: Frame) -> bytes:
        intra = encode(frame)
        if previous is None:
            return INTRA + intra
        inter = encode(difference(frame, previous, bits))
        return INTER + inter if len(inter) < len(intra) else INTRA + intra

    def encode_next(frame: Frame) -> tuple[Parts, float]:
        nonlocal previous
        data, milliseconds = timed(lambda: choose(frame))
        previous = frame
        return (data,), milliseconds

    return encode_next


def _difference_decoder(decode: DecodeFrame, bits: int) -> Decode:
    """Return the inverse of `_difference_encoder`."""
    previous: Frame | None = None

    def restore(data: bytes) -> Frame:
        frame = decode(data[1:])
        if data[:1] == INTRA or previous is None:
            return frame
        return undo_difference(frame, previous, bits)

    def decode_next(parts: Parts) -> tuple[Frame, float]:
        nonlocal previous
        frame, milliseconds = timed(lambda: restore(parts[0]))
        previous = frame
        return frame, milliseconds

    return decode_next
