"""Our kernels as torch custom ops: Triton on a GPU, torch or the NumPy reference on a CPU.

Importing this module registers them as `torch.ops.edge_codec` and imports neither Triton nor a
kernel; those come with the first tensor on a GPU. The ops work under `torch.compile` and
`torch.export`, and `edge_codec.export.custom_ops` makes the networks' own, `codebook_lookup` and
`attention`, nodes of an ONNX file. None has a gradient: attention is trained with
`torch.nn.functional.scaled_dot_product_attention`, and the others cannot have one.

The kernels of the networks' ops take what their modules say. Other types on a GPU (float32,
bfloat16) run the formula that a CPU runs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor

from edge_codec.errors import EngineError
from edge_codec.kernels.reference import normalize as normalize_reference
from edge_codec.transform.wavelet import Detail, analyze2d, synthesize2d

CHUNK_SCORES = 1 << 24
"""Scores in memory at a time where torch computes them: 64 MiB."""


@torch.library.custom_op("edge_codec::codebook_lookup", mutates_args=(), device_types="cpu")
def codebook_lookup(latents: Tensor, codes: Tensor, norms: Tensor | None = None) -> Tensor:
    """Find the nearest code of each latent; the lowest index wins a tie.

    Parameters
    ----------
    latents : Tensor, shape (..., dim), float32, bfloat16, float16 or int8
    codes : Tensor, shape (n_codes, dim), dtype of the latents
    norms : Tensor, shape (n_codes,), optional
        Half the squared lengths of the codes, float32; of int8 codes the squared lengths, int32.
        None takes the code of the largest product.

    Returns
    -------
    Tensor, shape (...), int32

    Raises
    ------
    EngineError
        If the tensors do not fit together.
    """
    _check_lookup(latents, codes, norms)
    return _lookup_in_torch(latents, codes, norms)


@codebook_lookup.register_kernel("cuda")
def _lookup_on_gpu(latents: Tensor, codes: Tensor, norms: Tensor | None = None) -> Tensor:
    _check_lookup(latents, codes, norms)
    if latents.dtype not in (torch.float16, torch.int8) or not latents.numel():
        return _lookup_in_torch(latents, codes, norms)
    from edge_codec.kernels.codebook_lookup import codebook_lookup as launch

    return launch(latents.contiguous(), codes.contiguous(), norms)


@codebook_lookup.register_fake
def _(latents: Tensor, codes: Tensor, norms: Tensor | None = None) -> Tensor:
    _check_lookup(latents, codes, norms)
    return latents.new_empty(latents.shape[:-1], dtype=torch.int32)


def _check_lookup(latents: Tensor, codes: Tensor, norms: Tensor | None) -> None:
    if codes.ndim != 2 or latents.ndim < 1 or latents.shape[-1] != codes.shape[1]:
        raise EngineError(
            f"latents are {tuple(latents.shape)} and codes {tuple(codes.shape)}; "
            "expected (..., dim) and (n_codes, dim)"
        )
    if latents.dtype != codes.dtype or not codes.shape[0]:
        raise EngineError(
            f"latents are {latents.dtype} and the {codes.shape[0]} codes {codes.dtype}; "
            "expected at least one code, and one type"
        )
    expected = torch.int32 if codes.dtype == torch.int8 else torch.float32
    if norms is not None and (norms.shape != codes.shape[:1] or norms.dtype != expected):
        raise EngineError(
            f"norms are {tuple(norms.shape)} {norms.dtype}; expected ({codes.shape[0]},) {expected}"
        )


def _lookup_in_torch(latents: Tensor, codes: Tensor, norms: Tensor | None) -> Tensor:
    rows = latents.reshape(-1, latents.shape[-1])
    columns = codes.float().T
    # Of int8 the norms are not halved: products count twice. All of it is exact in float32.
    factor = 2.0 if codes.dtype == torch.int8 else 1.0
    offset = codes.new_zeros(len(codes), dtype=torch.float32) if norms is None else norms.float()
    tokens = torch.empty(len(rows), dtype=torch.int32, device=latents.device)
    step = max(1, CHUNK_SCORES // len(codes))
    for start in range(0, len(rows), step):
        part = rows[start : start + step].float()
        scores = torch.addmm(offset, part, columns, beta=-1.0, alpha=factor)
        tokens[start : start + step] = scores.argmax(dim=1)
    return tokens.reshape(latents.shape[:-1])


@torch.library.custom_op("edge_codec::attention", mutates_args=(), device_types="cpu")
def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of the values, weighted by the softmax of query . key / sqrt(dim).

    Parameters
    ----------
    query : Tensor, shape (n, heads, queries, dim), float
    key, value : Tensor, shape (n, heads, keys, dim), dtype of the query
    mask : Tensor, shape (n, keys), bool, optional
        False hides a key. Where all keys are hidden the result is zero.

    Returns
    -------
    Tensor, shape and dtype of the query
        In memory (n, queries, heads, dim), as the next projection wants it. Queries, keys and
        values that lie so, such as slices of a packed projection, are not copied on a GPU.

    Raises
    ------
    EngineError
        If the tensors do not fit together.
    """
    _check_attention(query, key, value, mask)
    return _attention_in_torch(query, key, value, mask)


@attention.register_kernel("cuda")
def _attention_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    _check_attention(query, key, value, mask)
    if query.dtype != torch.float16 or not query.numel() or not key.numel():
        return _attention_in_torch(query, key, value, mask)
    from edge_codec.kernels import attention as kernel
    from edge_codec.kernels.tensors import HEAD_DIMS

    heads, dim = query.shape[1], query.shape[3]
    longest = max(query.shape[2], key.shape[2])
    if longest > kernel.MAX_POSITIONS or not HEAD_DIMS[0] <= dim <= HEAD_DIMS[1]:
        return _attention_in_torch(query, key, value, mask)
    q, k, v = (x.transpose(1, 2).flatten(2) for x in (query, key, value))
    visible = None if mask is None else mask.contiguous()
    out = kernel.attention(q, k, v, heads, key_mask=visible)
    return out.reshape(*out.shape[:2], heads, dim).transpose(1, 2)


@attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    _check_attention(query, key, value, mask)
    n, heads, queries, dim = query.shape
    return query.new_empty((n, queries, heads, dim)).transpose(1, 2)


def _check_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    shape = (*query.shape[:2], *key.shape[2:3], *query.shape[3:])
    if query.ndim != 4 or key.shape != shape or value.shape != shape:
        raise EngineError(
            f"query is {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}; "
            "expected (n, heads, queries, dim) and twice (n, heads, keys, dim)"
        )
    if query.dtype != key.dtype or query.dtype != value.dtype or not query.is_floating_point():
        raise EngineError(
            f"query is {query.dtype}, key {key.dtype}, value {value.dtype}; expected one float type"
        )
    expected = (query.shape[0], key.shape[2])
    if mask is not None and (mask.shape != expected or mask.dtype != torch.bool):
        raise EngineError(
            f"mask is {tuple(mask.shape)} {mask.dtype}; expected {tuple(expected)} torch.bool"
        )


def _attention_in_torch(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    visible = None if mask is None else mask[:, None, None, :]
    mean = F.scaled_dot_product_attention(query, key, value, visible)
    return mean.transpose(1, 2).contiguous().transpose(1, 2)


@torch.library.custom_op("edge_codec::normalize", mutates_args=(), device_types="cpu")
def normalize(frames: Tensor, to_code: Tensor, stride: int = 8) -> Tensor:
    """Make window codes of frames and extend them to multiples of the stride.

    Parameters
    ----------
    frames : Tensor, shape (n, rows, columns), uint16
        Stored values minus the stream's lower bound.
    to_code : Tensor, shape (65536,), uint8
        From `edge_codec.kernels.reference.normalize.code_table`.
    stride : int

    Returns
    -------
    Tensor, shape (n, height, width), uint8

    Raises
    ------
    EngineError
        If a tensor does not fit.
    """
    _check_frames("frames", frames, torch.uint16)
    _check_table("to_code", to_code, 1 << 16, torch.uint8)
    codes = normalize_reference.normalize(frames.numpy(), to_code.numpy(), stride)
    return torch.from_numpy(codes)


@normalize.register_kernel("cuda")
def _normalize_on_gpu(frames: Tensor, to_code: Tensor, stride: int = 8) -> Tensor:
    from edge_codec.kernels.normalize import normalize as launch

    return launch(frames.contiguous(), to_code, stride)


@normalize.register_fake
def _(frames: Tensor, to_code: Tensor, stride: int = 8) -> Tensor:
    _check_frames("frames", frames, torch.uint16)
    n, rows, columns = frames.shape
    return to_code.new_empty((n, rows + -rows % stride, columns + -columns % stride))


@torch.library.custom_op("edge_codec::denormalize", mutates_args=(), device_types="cpu")
def denormalize(codes: Tensor, to_sample: Tensor, rows: int, columns: int) -> Tensor:
    """Make frames of window codes: undo `normalize`, as far as 8 bits can.

    Parameters
    ----------
    codes : Tensor, shape (n, height, width), uint8
    to_sample : Tensor, shape (256,), uint16
        From `edge_codec.kernels.reference.normalize.sample_table`.
    rows, columns : int
        Sides of the frames.

    Returns
    -------
    Tensor, shape (n, rows, columns), uint16

    Raises
    ------
    EngineError
        If a tensor does not fit.
    """
    _check_frames("codes", codes, torch.uint8)
    _check_table("to_sample", to_sample, 256, torch.uint16)
    if not (1 <= rows <= codes.shape[1] and 1 <= columns <= codes.shape[2]):
        raise EngineError(f"codes are {tuple(codes.shape)}; expected frames of {rows}x{columns}")
    frames = normalize_reference.denormalize(codes.numpy(), to_sample.numpy(), rows, columns)
    return torch.from_numpy(frames)


@denormalize.register_kernel("cuda")
def _denormalize_on_gpu(codes: Tensor, to_sample: Tensor, rows: int, columns: int) -> Tensor:
    from edge_codec.kernels.normalize import denormalize as launch

    return launch(codes.contiguous(), to_sample, rows, columns)


@denormalize.register_fake
def _(codes: Tensor, to_sample: Tensor, rows: int, columns: int) -> Tensor:
    _check_frames("codes", codes, torch.uint8)
    return to_sample.new_empty((codes.shape[0], rows, columns))


@torch.library.custom_op("edge_codec::wavelet_analyze", mutates_args=(), device_types="cpu")
def wavelet_analyze(frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split frames into the subbands of one level of the integer 5/3 wavelet.

    Parameters
    ----------
    frames : Tensor, shape (n, rows, columns), int16, uint16 or int32
        Of at most 29 signed bits; a CPU refuses larger values, a GPU is modulo 2**32.

    Returns
    -------
    ll, hl, lh, hh : Tensor, int32
        See `edge_codec.transform.wavelet`.
    """
    _check_frames("frames", frames, torch.int16, torch.uint16, torch.int32)
    low, detail = analyze2d(frames.numpy())
    ll, hl, lh, hh = (torch.from_numpy(band).contiguous() for band in (low, *detail))
    return ll, hl, lh, hh


@wavelet_analyze.register_kernel("cuda")
def _wavelet_analyze_on_gpu(frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from edge_codec.kernels.wavelet import analyze2d as launch

    ll, hl, lh, hh = launch(frames.contiguous())
    return ll, hl, lh, hh


@wavelet_analyze.register_fake
def _(frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_frames("frames", frames, torch.int16, torch.uint16, torch.int32)
    n, rows, columns = frames.shape
    low, high, left, right = (rows + 1) // 2, rows // 2, (columns + 1) // 2, columns // 2
    shapes = ((low, left), (low, right), (high, left), (high, right))
    ll, hl, lh, hh = (frames.new_empty((n, *shape), dtype=torch.int32) for shape in shapes)
    return ll, hl, lh, hh


@torch.library.custom_op("edge_codec::wavelet_synthesize", mutates_args=(), device_types="cpu")
def wavelet_synthesize(ll: Tensor, hl: Tensor, lh: Tensor, hh: Tensor) -> Tensor:
    """Undo `wavelet_analyze`: frames of shape (n, rows, columns), int32."""
    for name, band in (("ll", ll), ("hl", hl), ("lh", lh), ("hh", hh)):
        _check_frames(name, band, torch.int32, may_be_empty=True)
    return torch.from_numpy(synthesize2d(ll.numpy(), Detail(hl.numpy(), lh.numpy(), hh.numpy())))


@wavelet_synthesize.register_kernel("cuda")
def _wavelet_synthesize_on_gpu(ll: Tensor, hl: Tensor, lh: Tensor, hh: Tensor) -> Tensor:
    from edge_codec.kernels.wavelet import Subbands
    from edge_codec.kernels.wavelet import synthesize2d as launch

    return launch(Subbands(*(band.contiguous() for band in (ll, hl, lh, hh))))


@wavelet_synthesize.register_fake
def _(ll: Tensor, hl: Tensor, lh: Tensor, hh: Tensor) -> Tensor:
    rows, columns = ll.shape[1] + lh.shape[1], ll.shape[2] + hl.shape[2]
    return ll.new_empty((ll.shape[0], rows, columns))


def _check_frames(
    name: str, tensor: Tensor, *dtypes: torch.dtype, may_be_empty: bool = False
) -> None:
    if tensor.ndim != 3 or tensor.dtype not in dtypes or not (may_be_empty or tensor.numel()):
        known = " or ".join(str(dtype) for dtype in dtypes)
        raise EngineError(
            f"{name} is {tuple(tensor.shape)} {tensor.dtype}; expected (n, rows, columns) {known}"
        )


def _check_table(name: str, table: Tensor, size: int, dtype: torch.dtype) -> None:
    if table.shape != (size,) or table.dtype != dtype:
        raise EngineError(
            f"{name} is {tuple(table.shape)} {table.dtype}; expected ({size},) {dtype}"
        )
