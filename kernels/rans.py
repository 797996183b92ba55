"""Interleaved rANS on the GPU: many payloads at once, each the bytes of the C coder exactly.

`edge_codec.entropy.rans` explains the coder. A payload is a chain of dependent steps of `lanes`
symbols each, so a GPU is kept busy by many payloads and not by a long one: a warp codes one payload
of 32 lanes, or several of fewer, and thousands of warps are in flight. Payloads differ in length;
`offsets` says where the symbols of each begin and end.

Encoding takes symbols as the pairs `start | frequency - 1 << 16` that a model makes of them
(`edge_codec.kernels.token_rates`), decoding finds them in fixed distributions (`decode_tables`).
Nothing here waits for the GPU except `upload`, `download` and `check_statuses`, so that both can
be part of a CUDA graph. What lies in GPU memory is believed as little as a file: no payload,
offset or context makes a kernel read or write outside of its arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
from triton.runtime.jit import JITFunction

from edge_codec.entropy.arguments import check_lanes
from edge_codec.entropy.rans import Payload, raise_status
from edge_codec.errors import EngineError, FrameError
from edge_codec.kernels.rans_decode import BAD_CONTEXT, DecodeTables, decode_kernel
from edge_codec.kernels.rans_decode import decode_tables as decode_tables
from edge_codec.kernels.rans_encode import encode_kernel
from edge_codec.kernels.spec import KernelSpec
from edge_codec.kernels.tables import Config, config

MAX_ELEMENTS = (1 << 31) - (1 << 10)
"""Elements of an array: the next row's index has to fit int32 as well."""

KERNELS = {"encode": encode_kernel, "decode": decode_kernel}
ENCODE = {
    "pairs": "*i32", "offsets": "*i32", "n_payloads": "i32", "n_pairs": "i32", "capacity": "i32",
    "words": "*u16", "begins": "*i32", "sizes": "*i32",
}  # fmt: skip
DECODE = {
    "words": "*u16", "begins": "*i32", "sizes": "*i32", "offsets": "*i32", "contexts": "*u8",
    "coarse": "*u8", "entries": "*i32", "n_payloads": "i32", "n_words": "i32", "n_symbols": "i32",
    "n_contexts": "i32", "width": "i32", "shift": "i32", "leaps": "i32", "symbols": "*u8",
    "statuses": "*i32",
}  # fmt: skip


class Payloads(NamedTuple):
    """Payloads in memory of a device; the encoder returns them, the decoder takes them.

    Attributes
    ----------
    words : torch.Tensor, shape (n_words,), uint16
        Their 16-bit words, little-endian, with anything between the payloads.
    begins : torch.Tensor, shape (n_payloads,), int32
        The word where each begins.
    sizes : torch.Tensor, shape (n_payloads,), int32
        Bytes of each.
    """

    words: torch.Tensor
    begins: torch.Tensor
    sizes: torch.Tensor


def slot_words(n_pairs: int, lanes: int) -> int:
    """Return how many words `n_pairs` symbols can take: two per lane, and one per symbol."""
    return 2 * lanes + n_pairs


def encode(
    pairs: torch.Tensor,
    offsets: torch.Tensor,
    lanes: int,
    capacity: int,
    *,
    out: Payloads | None = None,
) -> Payloads:
    """Code pairs into one payload per range of `offsets`.

    A payload is written from its last word to its first, as the C coder does, and stands at the end
    of a slot of `capacity` words.

    Parameters
    ----------
    pairs : torch.Tensor, shape (n_pairs,), int32
        `start | frequency - 1 << 16` of each symbol, the bits of a uint32.
    offsets : torch.Tensor, shape (n_payloads + 1,), int32, rising
        Payload `p` codes `pairs[offsets[p] : offsets[p + 1]]`.
    lanes : int
        1, 2, 4, 8, 16 or 32.
    capacity : int
        At least `slot_words` of the longest range; a payload whose slot is smaller gets size 0.
    out : Payloads, optional
        Where to write, with `n_payloads * capacity` words.

    Returns
    -------
    Payloads

    Raises
    ------
    SpecError
        If the number of lanes is impossible.
    EngineError
        If a tensor has a wrong dtype, shape or device, or 32-bit indices do not suffice.
    """
    tile = _tile("encode", lanes, pairs.device)
    check_tensor("pairs", pairs, (torch.int32,), (pairs.numel(),), pairs.device)
    n_payloads = _count_payloads(offsets, pairs.device)
    # A payload's bytes have to fit int32, too.
    if not 0 <= capacity <= MAX_ELEMENTS // 2 or n_payloads * capacity > MAX_ELEMENTS:
        raise EngineError(f"{n_payloads} slots of {capacity} words; encode fewer at a time")
    if out is None:
        words = torch.empty(n_payloads * capacity, dtype=torch.uint16, device=pairs.device)
        begins = torch.empty(n_payloads, dtype=torch.int32, device=pairs.device)
        out = Payloads(words, begins, torch.empty_like(begins))
    _check_payloads(out, n_payloads, pairs.device)
    if out.words.numel() != n_payloads * capacity:
        raise EngineError(f"out has {out.words.numel()} words, not {n_payloads} x {capacity}")
    if n_payloads:
        encode_kernel[(triton.cdiv(n_payloads, tile.constants["PAYLOADS"]),)](
            pairs,
            offsets,
            n_payloads,
            pairs.numel(),
            capacity,
            *out,
            LANES=lanes,
            **tile.constants,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )
    return out


def decode(
    payloads: Payloads,
    offsets: torch.Tensor,
    tables: DecodeTables,
    lanes: int,
    contexts: torch.Tensor | None = None,
    *,
    out: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode payloads of symbols with fixed distributions.

    Parameters
    ----------
    payloads : Payloads
    offsets : torch.Tensor, shape (n_payloads + 1,), int32, rising
        Payload `p` holds `symbols[offsets[p] : offsets[p + 1]]`.
    tables : DecodeTables
    lanes : int
        1, 2, 4, 8, 16 or 32.
    contexts : torch.Tensor, shape (n_symbols,), uint8 or uint16, optional
        Distribution of each symbol; without it all have the first.
    out : tuple of torch.Tensor
        Symbols, shape (n_symbols,), uint8 for at most 256 symbols, else uint16; and statuses, shape
        (n_payloads,), int32. See `check_statuses`.

    Returns
    -------
    tuple of torch.Tensor
        `out`. Symbols of a payload whose status is not 0 are not to be used.

    Raises
    ------
    SpecError
        If the number of lanes is impossible.
    EngineError
        If a tensor has a wrong dtype, shape or device, or 32-bit indices do not suffice.
    """
    symbols, statuses = out
    device = symbols.device
    tile = _tile("decode", lanes, device)
    n_contexts, width = tables.entries.shape
    n_payloads = _count_payloads(offsets, device)
    _check_payloads(payloads, n_payloads, device)
    dtype = torch.uint8 if width <= 256 else torch.uint16
    check_tensor("symbols", symbols, (dtype,), (symbols.numel(),), device)
    check_tensor("statuses", statuses, (torch.int32,), (n_payloads,), device)
    check_tensor("the tables", tables.entries, (torch.int32,), (n_contexts, width), device)
    if contexts is not None:
        check_tensor("contexts", contexts, (torch.uint8, torch.uint16), symbols.shape, device)
    if n_payloads:
        decode_kernel[(triton.cdiv(n_payloads, tile.constants["PAYLOADS"]),)](
            *payloads,
            offsets,
            symbols if contexts is None else contexts,
            tables.coarse,
            tables.entries,
            n_payloads,
            payloads.words.numel(),
            symbols.numel(),
            n_contexts,
            width,
            tables.shift,
            tables.leaps,
            symbols,
            statuses,
            LANES=lanes,
            CONTEXTUAL=contexts is not None,
            **tile.constants,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )
    return out


def check_statuses(statuses: torch.Tensor, offsets: torch.Tensor) -> None:
    """Wait for the decoder and refuse what it refused.

    Parameters
    ----------
    statuses : torch.Tensor, shape (n_payloads,), int32
        0, or the C coder's code of why a payload is not that of its symbols.
    offsets : torch.Tensor, shape (n_payloads + 1,), int32
        As given to `decode`.

    Raises
    ------
    BitstreamError
        If a payload is truncated or damaged.
    FrameError
        If a context has no distribution.
    """
    found = statuses.cpu().numpy()
    counts = np.diff(offsets.cpu().numpy())
    for payload in np.flatnonzero(found):
        if found[payload] == BAD_CONTEXT:
            raise FrameError(f"payload {payload}: a context has no table; give one per context")
        raise_status(int(found[payload]), int(counts[payload]))


def upload(payloads: Sequence[Payload], device: torch.device | str) -> Payloads:
    """Put payloads into memory of a device, each at a whole word.

    Raises
    ------
    EngineError
        If they take more than 2**31 words.
    """
    sizes = np.array([len(payload) for payload in payloads], np.int64)
    ends = np.cumsum((sizes + 1) // 2)
    n_words = int(ends[-1]) if len(ends) else 0
    if n_words > MAX_ELEMENTS or int(sizes.max(initial=0)) > MAX_ELEMENTS:
        raise EngineError(f"payloads of {2 * n_words} bytes; decode fewer at a time")
    padded = b"".join(bytes(payload) + b"\0" * (len(payload) % 2) for payload in payloads)
    words = np.frombuffer(bytearray(padded), "<u2").astype(np.uint16, copy=False)
    arrays = (words, (ends - (sizes + 1) // 2).astype(np.int32), sizes.astype(np.int32))
    return Payloads(*(torch.from_numpy(array).to(device) for array in arrays))


def download(payloads: Payloads) -> list[bytes]:
    """Wait for the encoder and return its payloads.

    Raises
    ------
    EngineError
        If a payload did not fit its slot.
    """
    words, begins, sizes = (tensor.cpu().numpy() for tensor in payloads)
    if not sizes.all():
        raise EngineError(f"payload {int(sizes.argmin())} does not fit its slot; see slot_words")
    data = words.astype("<u2", copy=False).view(np.uint8)
    return [
        data[2 * begin : 2 * begin + size].tobytes()
        for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)
    ]


def specs(capability: int) -> tuple[KernelSpec, ...]:
    """Return what is compiled ahead of time: lanes of tokens, the default, and those of a warp."""
    return (
        _spec("encode", 1, capability, {}),
        _spec("encode", 32, capability, {}),
        _spec("decode", 8, capability, {"CONTEXTUAL": True}),
        _spec("decode", 32, capability, {"CONTEXTUAL": False}),
    )


def _spec(kind: str, lanes: int, capability: int, more: dict[str, Any]) -> KernelSpec:
    tile = config("rans", f"{kind}_l{lanes}", capability)
    return KernelSpec(
        name=f"rans_{kind}_l{lanes}",
        function=KERNELS[kind],
        signature=ENCODE if kind == "encode" else DECODE,
        constants={"LANES": lanes, **tile.constants, **more},
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def check_tensor(
    name: str,
    tensor: torch.Tensor,
    dtypes: tuple[torch.dtype, ...],
    shape: Sequence[int],
    device: torch.device,
) -> None:
    """Refuse a tensor that a kernel would misread.

    Raises
    ------
    EngineError
        If its dtype, shape, layout or device is another one, or it has too many elements.
    """
    if tensor.dtype not in dtypes or tensor.shape != tuple(shape) or tensor.device != device:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise EngineError(
            f"{name}: {str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)} "
            f"on {tensor.device}; expected {names} of shape {tuple(shape)} on {device}"
        )
    if not tensor.is_contiguous():
        raise EngineError(f"{name} is not contiguous; call .contiguous() first")
    if tensor.numel() > MAX_ELEMENTS:
        raise EngineError(f"{name}: {tensor.numel()} elements; give at most {MAX_ELEMENTS} at once")


def launch_config(kernel: str, variant: str, function: Any, device: torch.device) -> Config:
    """Return how to launch a kernel on a device.

    The interpreter counts as `sm_0`: it takes its time per operation, not per element, and wants
    larger tiles than a GPU.

    Raises
    ------
    EngineError
        If the device is not a GPU and the kernel is not interpreted.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return config(kernel, variant, 10 * major + minor)
    if isinstance(function, JITFunction):
        raise EngineError(
            f"{kernel}: tensors on {device}; put them on a GPU, or set TRITON_INTERPRET=1 before "
            "the start to interpret kernels on the CPU"
        )
    return config(kernel, variant, 0)


def _tile(kind: str, lanes: int, device: torch.device) -> Config:
    return launch_config("rans", f"{kind}_l{check_lanes(lanes)}", KERNELS[kind], device)


def _count_payloads(offsets: torch.Tensor, device: torch.device) -> int:
    """Return the number of ranges."""
    check_tensor("offsets", offsets, (torch.int32,), (max(offsets.numel(), 1),), device)
    return offsets.numel() - 1


def _check_payloads(payloads: Payloads, n_payloads: int, device: torch.device) -> None:
    words, begins, sizes = payloads
    check_tensor("words", words, (torch.uint16,), (words.numel(),), device)
    check_tensor("begins", begins, (torch.int32,), (n_payloads,), device)
    check_tensor("sizes", sizes, (torch.int32,), (n_payloads,), device)
