"""`docs/calibration.md`: its table is that of the records, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.report_calibration import calibration_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "calibration.md"


def test_the_table_is_that_of_the_records() -> None:
    assert calibration_table() in PAGE.read_text(encoding="utf-8")


def test_links_and_named_files_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (PAGE.parent / target).exists(), target
    for name in re.findall(r"`((?:calibration|benchmarks|export)/[\w/.]+\.\w+)`", text):
        assert (ROOT / name).exists(), name
