"""Configurations of the tokenizer's stages are read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
yaml = pytest.importorskip("yaml")

from titok_training_samples import stage_content, write_stage  # noqa: E402

import edge_codec.training  # noqa: E402
from edge_codec.errors import SpecError  # noqa: E402
from edge_codec.nn.titok import SIZES, TiTok  # noqa: E402
from edge_codec.training.titok.config import STAGES, read_config  # noqa: E402

CONFIGS = Path(edge_codec.training.__file__).parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("titok_*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_read(path: Path) -> None:
    config = read_config(path)
    assert config.network == SIZES["s"]
    assert len(config.held_out) == 6
    assert config.loss.need_judge == (path.stem in ("titok_decoder", "titok_whole"))


def test_a_configuration_says_what_its_file_says(tmp_path: Path) -> None:
    path = write_stage(tmp_path / "c.yaml", "decoder", network={"fusion": "lstm"})
    config = read_config(path)
    assert (config.stage, config.network.fusion, config.network.width) == ("decoder", "lstm", 16)
    assert config.streams.life == (2, 4)
    assert config.loss.pixel_squared == 10.0
    assert config.loss.perceptual == 0.0


def test_the_longest_beginning_sets_a_parameters_rate(tmp_path: Path) -> None:
    rates = {"encoder.": 0.5, "encoder.shortcut.": 0.03}
    content = stage_content("whole")
    content["train"]["rates"] = rates
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    options = read_config(path).train
    names = ("encoder.shortcut.bases", "encoder.head.weight", "decoder.embed.weight")
    assert [options.rate_factor(name) for name in names] == [0.03, 0.5, 1.0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": "xl"}, "size 'xl'"),
        ({"stage": "last"}, "stage 'last'"),
        ({"network": {"widht": 3}}, "widht"),
        ({"network": {"canvas": 64}}, "canvas is 64"),
        ({"streams": {"life": [4, 2]}}, "lives of 4 to 2"),
        ({"streams": {"limits": {"rotation_degrees": 30.0}}}, "rotation"),
        ({"streams": {"mirror_chance": 1.5}}, "mirror_chance is 1.5"),
        ({"told": {"heart": -1.0}}, r"told\.heart is -1"),
        ({"loss": {"temporal": float("nan")}}, r"loss\.temporal is nan"),
        ({"loss": {"beauty": 1.0}}, "beauty"),
        ({"quantizer": {"noise_steps": 1, "rows": 10}}, "start from 10 latents"),
        ({"train": {"log_every": 0}}, "1 or more"),
        ({"train": {"rates": {"encoder.head.": -0.5}}}, r"rates\.encoder\.head\. is -0\.5"),
        ({"extra": 1}, "unknown fields extra"),
        ({"loss": [1, 2]}, "items"),
        ({"streams": 3}, "int"),
    ],
)
def test_wrong_configurations_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    content = stage_content("whole")
    for name, fields in changes.items():
        is_section = isinstance(fields, dict)
        content[name] = {**content[name], **fields} if is_section else fields
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpecError, match=said):
        read_config(path)


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    content = stage_content("whole")
    del content["train"]
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpecError, match=r"c\.yaml: 'train' is missing"):
        read_config(path)
    with pytest.raises(SpecError, match="absent"):
        read_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "size: [", "\x00"])
def test_what_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"c\.yaml"):
        read_config(path)


def test_every_stage_names_parameters_that_are_there() -> None:
    names = [name for name, _ in TiTok(SIZES["s"]).named_parameters()]
    for stage, prefixes in STAGES.items():
        for prefix in prefixes:
            assert any(name.startswith(prefix) for name in names), (stage, prefix)
    frozen = {
        stage: {name for name in names if not name.startswith(prefixes)}
        for stage, prefixes in STAGES.items()
    }
    assert not frozen["whole"]
    assert all(name.startswith(("encoder.pyramid.", "encoder.places", "encoder.blocks."))
               for name in frozen["adapters"])  # fmt: skip
    assert frozen["adapters"] < frozen["decoder"]
