"""Descriptions that exclude each other."""

from __future__ import annotations

import numpy as np
import pytest

from edge_codec.errors import SpecError
from edge_codec.spec import CineInfo, ModelId, StreamSpec

INFO = CineInfo(1, 20, 8, 8, np.dtype(np.int16))
LIVE = CineInfo(1, 0, 8, 8, np.dtype(np.int16))


def hybrid(info: CineInfo = INFO, **changes: object) -> StreamSpec:
    fields = {"model": ModelId.DWT_CAL, "max_error": None, "key_interval": 64} | changes
    return StreamSpec(info, 0, 99, **fields)  # type: ignore[arg-type]


def test_archive_of_the_hybrid() -> None:
    assert hybrid(archive=True).archive
    assert not hybrid().archive
    assert not hybrid(LIVE, key_interval=65_535).archive


@pytest.mark.parametrize(
    ("info", "changes", "message"),
    [
        (LIVE, {}, "number of phases"),
        (INFO, {"key_interval": 65}, "at most 64"),
        (INFO, {"model": ModelId.VQVAE}, "VQVAE has no archive order"),
        (INFO, {"model": ModelId.VIDEO, "model_data": b"\0"}, "VIDEO has no archive order"),
        (INFO, {"model": ModelId.NONE, "max_error": 0}, "NONE has no archive order"),
    ],
)
def test_archive_that_cannot_be(info: CineInfo, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        hybrid(info, archive=True, **changes)


@pytest.mark.parametrize("model", [ModelId.DWT_CAL, ModelId.VIDEO])
def test_models_without_files_have_no_hashes(model: ModelId) -> None:
    with pytest.raises(SpecError, match="depends on no files"):
        hybrid(model=model, model_hashes=(bytes(32),))


def test_data_of_a_model_is_that_of_a_video_codec() -> None:
    assert len(hybrid(model=ModelId.VIDEO, model_data=bytes(4096)).model_data) == 4096
    for model, size in ((ModelId.VIDEO, 4097), (ModelId.DWT_CAL, 1), (ModelId.VQVAE, 1)):
        with pytest.raises(SpecError, match="model_data has"):
            hybrid(model=model, model_data=bytes(size))
    with pytest.raises(SpecError, match="VIDEO needs model_data"):
        hybrid(model=ModelId.VIDEO)


def test_data_of_tokens_are_seven_bytes_and_no_bound_goes_with_them() -> None:
    assert len(hybrid(model=ModelId.TITOK, model_data=bytes(7)).model_data) == 7
    for size in (0, 6, 8):
        with pytest.raises(SpecError, match="model_data has"):
            hybrid(model=ModelId.TITOK, model_data=bytes(size))
    with pytest.raises(SpecError, match="takes no bound"):
        hybrid(model=ModelId.TITOK, model_data=bytes(7), max_error=0)
