"""Each form of attention trains from the same start; what does not attend adds nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")
pytest.importorskip("scipy")

import edge_codec.training  # noqa: E402
from edge_codec.nn.dwt_cal import DwtCal, DwtCalConfig  # noqa: E402
from edge_codec.training import attention_forms, stages  # noqa: E402
from edge_codec.training.attention_forms import (  # noqa: E402
    FORMS,
    GlobalSubbandAttention,
    give_form,
)
from edge_codec.training.pack import sequences_of, write_pack  # noqa: E402

CONFIG = Path(edge_codec.training.__file__).parent / "configs" / "dwt_cal_forms.yaml"
TINY = DwtCalConfig(
    features=8, side=4, analysis_depth=1, prior_depth=1, synthesis_depth=1, filter_width=4
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_codes_and_learns(form: str) -> None:
    torch.manual_seed(0)
    model = give_form(DwtCal(TINY), form, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    frames = torch.rand(1, 2, 16, 24)
    rollout = model.rollout(frames, torch.full((1, 2), 50.0))
    (rollout.bits.mean() + 1e4 * (rollout.decoded - frames).square().mean()).backward()
    learning = {n for n, p in model.inter.named_parameters() if p.grad is not None}
    assert ("analysis.attention.query.weight" in learning) == (form not in ("motion", "window"))
    assert ("window.conv.weight" in learning) == (form not in ("motion", "subbands"))
    assert ("context.query.conv.weight" in learning) == (form == "window_features")


def test_global_attention_sees_the_whole_frame_and_the_local_one_its_position() -> None:
    torch.manual_seed(0)
    near = give_form(DwtCal(TINY), "subbands", 1).inter.analysis.attention
    far = GlobalSubbandAttention(8)
    x, y = torch.randn(1, 64, 3, 4), torch.randn(1, 64, 3, 4)
    changed = y.clone()
    changed[..., 2, 3] += 1.0
    for attention, reaches in ((near, False), (far, True)):
        difference = (attention(x, changed) - attention(x, y))[..., 0, 0]
        assert bool(difference.abs().max() > 1e-6) is reaches


def test_command_measures_forms_against_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(stages.SIZES, "s", TINY)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    rng = np.random.default_rng(0)
    sequences = []
    for case in ("patient001", "patient014"):
        smooth = 800 * np.sin(np.arange(32) / 5.0) + 900 + rng.normal(0, 30, (1, 4, 24, 32))
        sequences += sequences_of(np.rint(smooth).astype(np.int64), case, "acdc")
    write_pack(sequences, tmp_path / "pack.zip")
    content = yaml.safe_load(CONFIG.read_text())
    content["clips"]["size"] = 16
    content["train"] |= {"steps": 1, "log_every": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    torch.manual_seed(0)
    trainer = stages.Trainer(stages.read_config(tmp_path / "config.yaml"), tmp_path)
    trainer.save()
    names = {"config": "config.yaml", "data": "pack.zip", "start": "averaged.pt", "out": "forms"}
    arguments = [text for n, v in names.items() for text in (f"--{n}", str(tmp_path / v))]
    attention_forms.main([*arguments, "--seed", "7", "--forms", "motion", "window_subbands"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["form"] for row in rows] == ["motion", "window_subbands"]
    assert rows[0]["rate_percent"] == pytest.approx(0.0, abs=1e-6)
    assert rows[1]["seed"] == 7
    assert rows[1]["inter_parameters"] > rows[0]["inter_parameters"]
