from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from stream_samples import make_spec, specs

from edge_codec.bitstream.header import (
    MAGIC,
    MAX_HEADER,
    pack_header,
    read_exactly,
    read_header,
    unpack_header,
)
from edge_codec.errors import BitstreamError, SpecError
from edge_codec.spec import CineInfo, Effort, ModelId, SourceHeader, SourceKind, StreamSpec

# Written by hand against docs/bitstream.md; never changed, as released streams begin like this.
GOLDEN = (
    "894543440d0a1a0a"  # magic
    "0100 0000 cc000000"  # version 1, flags 0, 204 bytes
    "02000000 03000000 04000000 06000000"  # 2 slices, 3 phases, 4 rows, 6 columns
    "03 00 00 01"  # int16, integer, no source, VQ-VAE
    "02000000 10000000 ed030000"  # max_error 2, key interval 16, span 1005
    "fbffffffffffffffffffffffffffffff"  # low -5
    "0200000000000000 87030000"  # window -3 to 900: offset 2, width 903
    "02 00 0000"  # effort BEST, rising phases, no bytes of the model
    "0000000000002040 000000000000f43f 000000000000f43f"  # spacing 8, 1.25, 1.25
    "0000000000000040 00000000000090c0"  # rescale 2, -1024
    "0000000000001f40 0000000000001440"  # noise sigma 7.75, SNR loss 5 %
    "02000000 01000000 04000000"  # 2 trigger times, 1 hash, 4 bytes of source header
    "0000000000000000 0000000000803940"  # 0 ms, 25.5 ms
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"  # hash
    "00000000"  # source header of 0 bytes
    "a116b4a2"  # CRC-32
)


def golden_spec() -> StreamSpec:
    info = CineInfo(
        2,
        3,
        4,
        6,
        np.dtype(np.int16),
        spacing_mm=(8.0, 1.25, 1.25),
        trigger_time_ms=(0.0, 25.5),
        rescale_slope=2.0,
        rescale_intercept=-1024.0,
    )
    return StreamSpec(
        info,
        low=-5,
        high=1000,
        model=ModelId.VQVAE,
        model_hashes=(bytes(range(32)),),
        max_error=2,
        key_interval=16,
        window_low=-3,
        window_high=900,
        effort=Effort.BEST,
        noise_sigma=7.75,
        snr_loss_percent=5.0,
    )


def with_crc(data: bytearray) -> bytes:
    struct.pack_into("<I", data, len(data) - 4, zlib.crc32(data[:-4]))
    return bytes(data)


def patched(spec: StreamSpec, at: int, raw: bytes) -> bytes:
    data = bytearray(pack_header(spec))
    data[at : at + len(raw)] = raw
    return with_crc(data)


def test_header_has_the_bytes_of_the_specification() -> None:
    assert pack_header(golden_spec()) == bytes.fromhex(GOLDEN)
    assert unpack_header(bytes.fromhex(GOLDEN)) == golden_spec()


@settings(derandomize=True, max_examples=300, deadline=None)
@given(specs())
def test_unpack_inverts_pack(spec: StreamSpec) -> None:
    data = pack_header(spec)
    assert unpack_header(data) == spec
    assert read_header(io.BytesIO(data + b"rest")) == (spec, len(data))


def test_every_flipped_bit_is_found() -> None:
    data = pack_header(make_spec(rich=True))
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(BitstreamError):
                read_header(io.BytesIO(damaged))


def test_every_cut_is_found() -> None:
    data = pack_header(make_spec(rich=True))
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            read_header(io.BytesIO(data[:size]))


@pytest.mark.parametrize(
    ("at", "raw", "message"),
    [
        (0, b"\x1f\x8b", "not an edge-codec stream"),
        (8, b"\x02\0", "version 2"),
        (10, b"\x01\0", "too short for its region"),
        (10, b"\x02\0", "flags are 0x2"),
        (12, b"\xff\xff\xff\xff", "header says"),
        (12, b"\0\0\0\0", "header says"),
        (16, b"\0\0\0\0", "n_slices is 0"),
        (16, b"\xff\xff\xff\xff", "n_slices"),
        (20, b"\xff\xff\xff\xff", "n_phases"),
        (24, b"\xff\xff\0\0\xff\xff\0\0", "larger than the limit"),
        (24, b"\xff\xff\xff\xff\xff\xff\xff\xff", "rows"),
        (32, b"\x0a", "dtype 10"),
        (33, b"\x03", "SampleFormat 3"),
        (34, b"\x05", "SourceKind 5"),
        (35, b"\x03", "VIDEO needs model_data"),
        (35, b"\x07", "ModelId 7"),
        (35, b"\x06", "takes no bound"),
        (36, b"\xfe\xff\xff\xff", "max_error is -2"),
        (36, b"\xff\xff\xff\xff", "codes nothing"),
        (40, b"\0\0\0\0", "key_interval is 0"),
        (40, b"\xff\xff\xff\xff", "key_interval"),
        (32, b"\x00", "do not fit uint8"),
        (32, b"\x08", "float32 are not INTEGER"),
        (33, b"\x01", "int16 are not FLOAT_INTEGER"),
        (44, b"\xff\xff\xff\xff", "do not fit int16"),
        (63, b"\x7f", "32 bits"),
        (64, b"\xff\xff\xff\xff\xff\xff\xff\x7f", "window"),
        (72, b"\0\0\0\0", "window"),
        (76, b"\3", "Effort 3"),
        (77, b"\1", "no archive order"),
        (77, b"\2", "order 2"),
        (78, b"\1\0", "add up to"),
        (80, struct.pack("<d", float("nan")), "not a finite number"),
        (104, struct.pack("<d", float("inf")), "not a finite number"),
        (120, struct.pack("<2d", float("nan"), 1.0), "noise_sigma is nan"),
        (120, struct.pack("<2d", float("inf"), 1.0), "noise_sigma is inf"),
        (120, struct.pack("<2d", -1.0, 1.0), "noise_sigma is -1"),
        (120, struct.pack("<d", 1.0), "without snr_loss_percent"),
        (128, struct.pack("<d", float("nan")), "snr_loss_percent is nan"),
        (128, struct.pack("<d", -1.0), "snr_loss_percent is -1"),
        (128, struct.pack("<d", 50.5), "snr_loss_percent is 50.5"),
        (136, b"\xff\xff\xff\xff", "trigger times"),
        (136, b"\x01\0\0\0", "add up to"),
        (140, b"\xff\xff\xff\xff", "model files"),
        (140, b"\x01\0\0\0", "add up to"),
        (144, b"\xff\xff\xff\xff", "add up to"),
        (148, b"\xff\xff\xff\xff", "inflates to"),
        (148, b"\x01\0\0\0", "size is due"),
    ],
)
def test_hostile_value_with_right_crc_is_refused(at: int, raw: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        read_header(io.BytesIO(patched(make_spec(), at, raw)))


@pytest.mark.parametrize("at", [148, 156])
@pytest.mark.parametrize("time_ms", [float("nan"), float("inf"), float("-inf")])
def test_time_that_is_not_finite_is_refused(at: int, time_ms: float) -> None:
    data = bytearray(pack_header(golden_spec()))
    struct.pack_into("<d", data, at, time_ms)
    with pytest.raises(BitstreamError, match="trigger time"):
        unpack_header(with_crc(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_hashes": (b"short",)},
        {"model_hashes": (bytes(32),) * 65},
        {"window_low": -(1 << 48), "window_high": -(1 << 48) + 5},
        {"window_low": (1 << 47) - 4, "window_high": 1 << 47},
        {"low": -32769},
        {"noise_sigma": float("inf"), "snr_loss_percent": 1.0},
        {"model": ModelId.VQVAE, "max_error": None, "snr_loss_percent": 1.0},
    ],
)
def test_what_has_no_place_in_the_format_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        pack_header(replace(make_spec(), **changes))  # type: ignore[arg-type]


def test_too_many_trigger_times_are_refused() -> None:
    info = replace(make_spec().info, trigger_time_ms=(0.0,) * ((1 << 18) + 1))
    with pytest.raises(SpecError, match="trigger times"):
        pack_header(replace(make_spec(), info=info))


def test_header_too_large_is_refused() -> None:
    noise = np.random.default_rng(1).bytes(MAX_HEADER)
    info = replace(make_spec().info, source=SourceHeader(SourceKind.NIFTI, noise))
    with pytest.raises(SpecError, match="limit"):
        pack_header(replace(make_spec(), info=info))


def test_source_of_a_pipe_in_small_pieces_is_read() -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(3, size or 0))

    data = pack_header(make_spec(rich=True))
    assert read_header(Trickle(data)) == (make_spec(rich=True), len(data))
    assert read_exactly(Trickle(data), 10**9) == data


def test_magic_survives_no_text_transfer() -> None:
    data = pack_header(make_spec())
    for broken in (data.replace(b"\r\n", b"\n"), bytes(byte & 127 for byte in data)):
        with pytest.raises(BitstreamError):
            unpack_header(broken)
    assert data.startswith(MAGIC)
