"""Which build of a native coder is picked."""

from __future__ import annotations

import importlib
from types import ModuleType
from unittest import mock

import pytest

import edge_codec.base.dwt_cal_vae.native
import edge_codec.base.hybrid.native
import edge_codec.residual.native
from edge_codec.base.dwt_cal_vae import _network
from edge_codec.base.hybrid import _hybrid
from edge_codec.native_build import FEATURES, best_build
from edge_codec.residual import _residual

PLAIN = [_residual, _hybrid, _network]


@pytest.mark.parametrize("plain", PLAIN)
@pytest.mark.parametrize("missing", [[], ["avx512"], ["avx2"], ["avx512", "avx2"]])
@pytest.mark.parametrize("present", [["avx512", "avx2"], ["avx2"], []])
def test_the_best_build_that_is_there_and_runs_is_picked(
    plain: ModuleType, missing: list[str], present: list[str]
) -> None:
    """Compilers may not know a feature that the processor has."""
    tried = []

    def import_module(name: str) -> ModuleType:
        tried.append(name)
        if any(name.endswith(kind) for kind in missing):
            raise ImportError(name)
        return ModuleType(name)

    features = {kind: kind in present for kind in FEATURES}
    with (
        mock.patch.object(importlib, "import_module", import_module),
        mock.patch.object(plain, "features", return_value=features),
    ):
        picked = best_build(plain)
    assert tried == [f"{plain.__name__}_{kind}" for kind in present][: len(tried)]
    usable = [kind for kind in present if kind not in missing]
    assert picked.__name__ == "_".join([plain.__name__, *usable[:1]])


def test_coders_use_the_build_for_this_processor() -> None:
    for used, plain in (
        (edge_codec.residual.native.native, _residual),
        (edge_codec.base.hybrid.native.native, _hybrid),
        (edge_codec.base.dwt_cal_vae.native.native, _network),
    ):
        assert used is best_build(plain)
