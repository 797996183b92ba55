"""Files of trainings are written whole, read without running code, and refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from edge_codec.errors import SourceError  # noqa: E402
from edge_codec.training.checkpoints import (  # noqa: E402
    AVERAGED,
    CHECKPOINT,
    read_state,
    resumed,
    write_training,
)
from edge_codec.training.loop import Trainer  # noqa: E402
from edge_codec.training.schedule import rate_of  # noqa: E402


@dataclass(frozen=True)
class Config:
    width: int = 3


@dataclass(frozen=True)
class Schedule:
    steps: int = 10
    warmup_steps: int = 2
    learning_rate: float = 1.0
    final_learning_rate: float = 0.2


def test_both_files_hold_what_they_should(tmp_path: Path) -> None:
    weights = {"a": torch.arange(3.0)}
    write_training(tmp_path, {"step": 7, "network": weights}, Config(), weights)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, AVERAGED}
    averaged = read_state(tmp_path / AVERAGED)
    assert averaged["config"] == {"width": 3}
    assert averaged["step"] == 7
    assert torch.equal(averaged["state"]["a"], weights["a"])
    with resumed(tmp_path) as state:
        assert torch.equal(state["network"]["a"], weights["a"])


class Code:
    def __reduce__(self) -> Any:
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    "content",
    [b"", b"damaged", [1], {"network": Code()}],
    ids=["empty", "text", "list", "code"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / CHECKPOINT
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    refusal = pytest.raises(SourceError, match=r"cannot resume from .*checkpoint\.pt")
    with refusal, resumed(tmp_path):
        pass


@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, RuntimeError])
def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, error: type[Exception]) -> None:
    torch.save({}, tmp_path / CHECKPOINT)
    with pytest.raises(SourceError, match="cannot resume"), resumed(tmp_path):
        raise error("size mismatch")


def test_the_first_codec_refuses_checkpoints_of_others(tmp_path: Path) -> None:
    config = {
        "model": {},
        "train": {
            "seed": 1, "steps": 2, "warmup_steps": 1, "learning_rate": 1e-3,
            "final_learning_rate": 1e-4, "weight_decay": 0.0, "commitment": 0.25, "ema_decay": 0.9,
            "revive_every": 1, "revive_until": 1.0, "freeze_encoder_at": 1.0,
            "checkpoint_seconds": 1.0, "validate_every": 1,
        },
    }  # fmt: skip
    trainer = Trainer(config, tmp_path, None)
    with pytest.raises(SourceError, match="cannot resume"):
        trainer.resume()
    trainer.step = 5
    trainer.save()
    trainer.step = 0
    trainer.resume()
    assert trainer.step == 5
    torch.save({"model": {}}, tmp_path / CHECKPOINT)
    with pytest.raises(SourceError, match="cannot resume"):
        trainer.resume()


def test_the_rate_rises_and_falls_along_a_cosine() -> None:
    schedule = Schedule()
    rates = [rate_of(schedule, step) for step in range(12)]
    assert rates[0] == pytest.approx(0.5)
    assert rates[5] == pytest.approx(0.6)  # half way between the ends
    assert rates[10] == rates[11] == pytest.approx(0.2)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rate_of(Schedule(warmup_steps=0), 0) == pytest.approx(1.0)
