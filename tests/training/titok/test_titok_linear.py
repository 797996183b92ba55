"""The linear codec that training begins with gets better from stage to stage."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from titok_training_samples import tiny_network, write_hearts, write_stage  # noqa: E402

from edge_codec.errors import SpecError  # noqa: E402
from edge_codec.nn.titok import GRAY, TiTok, nothing_before  # noqa: E402
from edge_codec.nn.titok_parts import STAGES  # noqa: E402
from edge_codec.spec import WINDOW_ONE  # noqa: E402
from edge_codec.training.titok import linear  # noqa: E402
from edge_codec.training.titok.checkpoint import load_titok  # noqa: E402
from edge_codec.training.titok.cines import open_cines  # noqa: E402
from edge_codec.training.titok.conditions import ALL_TOLD, conditions  # noqa: E402


def test_the_network_begins_as_the_linear_codec(tmp_path: Path) -> None:
    library, _ = open_cines([write_hearts(tmp_path)], ["patient014"])
    cines = linear.first_frames(library)
    assert cines.shape == (2, STAGES, 128, 128)
    assert torch.equal(cines[:, 0], cines[:, 6])  # six phases go round
    torch.manual_seed(0)
    model = TiTok(tiny_network()).eval()
    errors = linear.fit_linear(model, cines, 1)
    flat = float((cines[:, 0].float() / WINDOW_ONE - GRAY).square().mean())
    assert max(errors) < 0.05 * flat
    # The network as a whole starts as this codec, with the codebook of all stages.
    past, found = nothing_before(model.config, 2), []
    inside, nothing = torch.ones(2, 1, 128, 128), torch.zeros(2, 12)
    told = conditions(inside, torch.zeros_like(inside), nothing, None, ALL_TOLD)
    with torch.no_grad():
        for stage in range(STAGES):
            frame = cines[:, stage, None].float() / WINDOW_ONE
            coded = model(frame, past, told)
            latents = F.normalize(model.encoder.shortcut(frame - past.frame, past.age), dim=2)
            assert float((latents * coded.latents).sum(2).min()) > 0.98
            painted = past.frame + model.decoder.shortcut(coded.codes, past.age)
            assert torch.allclose(coded.frame, painted, atol=1e-4)
            shown = coded.frame.clamp(0.0, 255 / WINDOW_ONE)
            past = past.after(shown, coded.codes)
            found.append(float((shown - frame).square().mean()))
    # Its 64 codes serve all stages together, where fitting had as many for each.
    assert max(found) < 0.3 * flat


def test_too_few_cines_for_the_codebook_are_refused() -> None:
    model = TiTok(tiny_network())
    with pytest.raises(SpecError, match="32 latents"):
        linear.fit_linear(model, torch.zeros(1, STAGES, 128, 128, dtype=torch.uint8), 1)


def test_command_writes_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    config = write_stage(tmp_path / "c.yaml", "whole")
    data = write_hearts(tmp_path)
    out = tmp_path / "start"
    linear.main(["--config", str(config), "--data", str(data), "--out", str(out)])
    assert load_titok(out / "averaged.pt").config == tiny_network()
