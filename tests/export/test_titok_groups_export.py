"""Tables of groups become a folder of the zoo."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_codec.base.titok.groups.tables import (
    AROUND,
    IMAGES,
    GroupTables,
    load_group_tables,
    store_group_tables,
)
from edge_codec.errors import EngineError
from edge_codec.export import titok_groups
from edge_codec.export.titok_card import LICENSE
from edge_codec.manifest import load_manifest
from edge_codec.spec import ModelId

SIDE, DIM = 16, 3


def tables() -> bytes:
    rng = np.random.default_rng(0)
    found = {
        per: GroupTables(
            rng.random((4096, DIM), np.float32),
            rng.random((len(AROUND), DIM, images, SIDE // 8, SIDE // 4), np.float32),
            rng.random((images, SIDE, SIDE), np.float32),
        )
        for per, images in IMAGES.items()
    }
    return store_group_tables(found)


def test_the_command_makes_a_folder_that_loads(tmp_path):
    (tmp_path / "groups.npz").write_bytes(tables())
    out = tmp_path / "titok_groups"
    titok_groups.main(
        ["--tables", str(tmp_path / "groups.npz"), "--note", "Of noise.", "--version", "9.9.9",
         "--out", str(out)]
    )  # fmt: skip
    manifest = load_manifest(ModelId.TITOK_GROUPS, tmp_path)
    assert (manifest.name, manifest.version, manifest.license) == ("titok-groups", "9.9.9", LICENSE)
    assert manifest.decoding == ("groups.npz",)
    assert manifest.read("groups.npz") == tables()
    assert {per.label for per in load_group_tables(manifest.read("groups.npz"))} == {"cine", "exam"}
    fields = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert fields["wire_id"] == ModelId.TITOK_GROUPS
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Of noise." in card
    assert f"exam: codes of {DIM} numbers, images of {SIDE}x{SIDE}" in card
    license_text = (out / "LICENSE-WEIGHTS").read_text(encoding="utf-8")
    assert license_text.startswith("The weights in this folder (groups.npz) are licensed\nunder")


def test_what_is_no_table_leaves_no_folder(tmp_path):
    with pytest.raises(EngineError, match="malformed"):
        titok_groups.write_zoo(b"nothing", "1", "", tmp_path / "out")
    assert not (tmp_path / "out").exists()
