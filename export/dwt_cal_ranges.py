"""How large the activations of a DWT-CAL model become: observed while it codes exams.

Scales of the integer network follow from it. Values beyond the observed range saturate, with room
for twice as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_codec.errors import CalibrationError
from edge_codec.nn.depth_unit import DepthUnit
from edge_codec.nn.dwt_cal import DwtCal
from edge_codec.nn.lifting import pad_to_blocks
from edge_codec.training.pack import CineSequence
from edge_codec.training.rate_distortion import GroupOffsets

ROOM = 2.0
MOST_BITS = 14


class Ranges:
    """Largest magnitudes of what modules take and give, by name.

    Parameters
    ----------
    model : DwtCal
        In evaluation mode.
    """

    def __init__(self, model: DwtCal) -> None:
        self._model = model
        self._taken: dict[str, float] = {}
        self._given: dict[str, float] = {}

    @torch.no_grad()
    def observe(self, sequences: Sequence[CineSequence], qualities: Sequence[int]) -> None:
        """Code sequences, each as one group, at some qualities."""
        handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in self._model.named_modules()
            if name and not isinstance(module, nn.Sequential)
        ]
        try:
            for sequence in sequences:
                frames = pad_to_blocks(torch.from_numpy(sequence.units()))
                for quality in qualities:
                    self._code(frames, quality)
        finally:
            for handle in handles:
                handle.remove()

    def _code(self, frames: Tensor, quality: int) -> None:
        indices = GroupOffsets().quality(torch.tensor([float(quality)]), len(frames))
        state = None
        for phase in range(len(frames)):
            state = self._model(frames[None, phase : phase + 1], state, indices[:, phase]).state

    def _hook(self, name: str):  # type: ignore[no-untyped-def]
        def keep(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            for store, value in ((self._taken, inputs[0]), (self._given, output)):
                if isinstance(value, Tensor) and value.is_floating_point():
                    store[name] = max(store.get(name, 0.0), float(value.abs().max()))

        return keep

    def given(self, name: str) -> float:
        """Largest magnitude of a module's output.

        Raises
        ------
        CalibrationError
            If the module did not run.
        """
        if name not in self._given:
            raise CalibrationError(f"'{name}' did not run; observe groups of several frames")
        return self._given[name]

    def taken(self, name: str) -> float:
        """Largest magnitude of a module's first input; see `given`."""
        self.given(name)
        return self._taken[name]

    def stack(self, name: str) -> float:
        """Bound of the observed values in a stack of `DepthUnit`, on the way of their sums."""
        stack = self._model.get_submodule(name)
        largest = 0.0
        for index, unit in enumerate(stack.children()):
            if not isinstance(unit, DepthUnit):
                raise CalibrationError(f"'{name}' is no stack of units")
            here = f"{name}.{index}"
            middle = self.taken(here) + self.given(f"{here}.project")
            largest = max(largest, middle, self.given(here))
        return largest


def fraction_bits(largest: float) -> int:
    """Fraction bits with which values up to `ROOM` times `largest` fit 16 bits."""
    return min(math.floor(math.log2(32767 / (ROOM * max(largest, 1e-3)))), MOST_BITS)
