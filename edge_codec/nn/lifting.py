"""A three-level wavelet in front of the network: lifting with fixed or learned coefficients.

A frame becomes 64 coefficients per 8x8 block, channels of one tensor at an eighth of the
resolution, and comes back from them. Lifting changes the samples of one parity by a multiple of
the sum of their two neighbors of the other parity (Sweldens, "The lifting scheme", 1996), so that
it undoes exactly whatever the multiples are: they may be those of the 5/3 wavelet of
`edge_codec.transform.wavelet`, those of the 9/7 wavelet, or learned from either. An integer
version rounds each multiple to a fraction of a power of two and each step to an integer.

Every subband is scaled so that an error in a coefficient costs as much as the same error in a
pixel (to the extent that the wavelet is not orthogonal, on average): one quantization step then
means the same distortion in all of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor, nn

from edge_codec.errors import SpecError
from edge_codec.nn.vqvae import depth_to_space, space_to_depth

LEVELS = 3
STRIDE = 1 << LEVELS
"""Pixels per position of the coefficients along each axis."""

COEFFICIENTS = STRIDE * STRIDE
"""Channels of the coefficients: as many as an 8x8 block has pixels."""

BANDS = (1, 1, 1, 1, 4, 4, 4, 16, 16, 16)
"""Channels per subband: the mean, then hl, lh, hh of the coarsest level, the next, the finest."""

LIFTING_STEPS = {
    "5/3": (-0.5, 0.25),
    "9/7": (-1.586134342, -0.052980118, 0.882911076, 0.443506852),
}
"""Multiples of the lifting steps, alternately for odd and for even samples (ITU-T T.800, F)."""


class Lifting(nn.Module):
    """The wavelet and its inverse.

    Parameters
    ----------
    kind : str
        "5/3" or "9/7": where the multiples start.
    learned : bool
        Train the multiples, one set for each level.

    Raises
    ------
    SpecError
        If the kind is unknown.
    """

    steps: Tensor
    gains: Tensor

    def __init__(self, kind: str = "5/3", learned: bool = False) -> None:
        super().__init__()
        if kind not in LIFTING_STEPS:
            raise SpecError(f"wavelet '{kind}' is unknown; use {' or '.join(LIFTING_STEPS)}")
        steps = torch.tensor([LIFTING_STEPS[kind]] * LEVELS)
        if learned:
            self.steps = nn.Parameter(steps)
        else:
            self.register_buffer("steps", steps)
        self.register_buffer("gains", torch.ones(COEFFICIENTS, 1, 1))
        self.gains.copy_(self._norms())

    def forward(self, frame: Tensor) -> Tensor:
        """Analyze frames.

        Parameters
        ----------
        frame : Tensor, shape (n, 1, 8h, 8w), float

        Returns
        -------
        Tensor, shape (n, 64, h, w), float
            Scaled coefficients, subbands in the order of `BANDS`, each subband's samples within a
            block in the order (row, column).
        """
        parts: list[Tensor] = []
        low = frame
        for level in range(LEVELS):
            steps = self.steps[level].unbind()
            top, bottom = _split(low, -2, steps)
            low, hl = _split(top, -1, steps)
            lh, hh = _split(bottom, -1, steps)
            block = STRIDE >> (level + 1)
            parts[:0] = [space_to_depth(band, block) for band in (hl, lh, hh)]
        return torch.cat([low, *parts], dim=1) * self.gains

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Undo `forward`: (n, 64, h, w) to (n, 1, 8h, 8w)."""
        bands = torch.split(coefficients / self.gains, list(BANDS), dim=1)
        low = bands[0]
        for level in reversed(range(LEVELS)):
            steps = self.steps[level].unbind()
            first = 1 + 3 * (LEVELS - 1 - level)
            block = STRIDE >> (level + 1)
            hl, lh, hh = (depth_to_space(band, block) for band in bands[first : first + 3])
            low = _join(_join(low, hl, -1, steps), _join(lh, hh, -1, steps), -2, steps)
        return low

    @torch.no_grad()
    def _norms(self) -> Tensor:
        """Length of each coefficient's basis function, (64, 1, 1)."""
        side = 7  # blocks: the longest basis function stays inside
        impulses = torch.zeros(COEFFICIENTS, COEFFICIENTS, side, side)
        for channel in range(COEFFICIENTS):
            impulses[channel, channel, side // 2, side // 2] = 1.0
        norms = self.inverse(impulses).flatten(1).norm(dim=1)
        # One scale for each subband: its samples differ by their place alone.
        means = [band.mean().expand(len(band)) for band in torch.split(norms, list(BANDS))]
        return torch.cat(means)[:, None, None]


def coefficient_parity() -> Tensor:
    """Tell the two halves of a checkerboard of coefficients apart, shape (64,), int64.

    Samples of a subband that are neighbors within a block differ; so do the coarsest subbands from
    each other, which have one sample per block.
    """
    parity = [0, 1, 1, 0]
    for block in (2, 4):
        grid = [(row + column) % 2 for row in range(block) for column in range(block)]
        parity += 3 * grid
    return torch.tensor(parity)


def coefficient_levels() -> Tensor:
    """Level of each coefficient, shape (64,), int64: 0 the mean, then 1 the coarsest to 3."""
    return torch.tensor([0] + [1] * 3 + [2] * 12 + [3] * 48)


def coefficient_balance() -> Tensor:
    """Factors that bring all subbands to one order of magnitude for a network, (64, 1, 1)."""
    return torch.tensor([0.5, 2.0, 4.0, 8.0])[coefficient_levels()][:, None, None]


def _split(signal: Tensor, dim: int, steps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Lift along an axis of even length: low and high half."""
    even, odd = _half(signal, dim, 0), _half(signal, dim, 1)
    for index, step in enumerate(steps):
        if index % 2 == 0:
            odd = odd + step * _around_odd(even, dim)
        else:
            even = even + step * _around_even(odd, dim)
    return even, odd


def _join(even: Tensor, odd: Tensor, dim: int, steps: tuple[Tensor, ...]) -> Tensor:
    """Undo `_split`."""
    for index, step in reversed(tuple(enumerate(steps))):
        if index % 2 == 0:
            odd = odd - step * _around_odd(even, dim)
        else:
            even = even - step * _around_even(odd, dim)
    axis = even.dim() + dim
    return torch.stack((even, odd), dim=axis + 1).flatten(axis, axis + 1)


def _half(signal: Tensor, dim: int, start: int) -> Tensor:
    return signal[..., start::2, :] if dim == -2 else signal[..., start::2]


def _around_odd(even: Tensor, dim: int) -> Tensor:
    """Sum of the even samples before and after each odd one, reflected at the end."""
    length = even.shape[dim]
    after = _pad_edge(even.narrow(dim, 1, length - 1), even.narrow(dim, length - 1, 1), dim)
    return even + after


def _around_even(odd: Tensor, dim: int) -> Tensor:
    """Sum of the odd samples before and after each even one, reflected at the start."""
    length = odd.shape[dim]
    before = _pad_edge(odd.narrow(dim, 0, 1), odd.narrow(dim, 0, length - 1), dim)
    return odd + before


def _pad_edge(first: Tensor, second: Tensor, dim: int) -> Tensor:
    return torch.cat((first, second), dim=dim)


def pad_to_blocks(frames: Tensor) -> Tensor:
    """Extend (..., rows, columns) below and right to multiples of 8 by repeating the edge."""
    rows, columns = frames.shape[-2:]
    below, right = -rows % STRIDE, -columns % STRIDE
    if not below and not right:
        return frames
    flat = frames.reshape(-1, 1, rows, columns)
    padded = F.pad(flat, (0, right, 0, below), mode="replicate")
    return padded.reshape(*frames.shape[:-2], *padded.shape[-2:])
