"""The files of a data folder, and what they tell of the scanner."""

from __future__ import annotations

from pathlib import Path

from edge_codec.errors import SourceError
from edge_codec.spec import CineInfo, SourceKind

_FILES = (".nii", ".nii.gz", ".npy")
_DICOM = (".dcm", ".dicom", ".ima", "")
_LABELS = ("_gt", "_seg", "_label", "_labels", "_mask")


def find_sources(data: Path, pattern: str = "*") -> list[Path]:
    """Return the files and DICOM folders below a folder, or the file itself.

    Label maps (`*_gt.nii.gz` and the like) are left out.

    Raises
    ------
    SourceError
        If there are none.
    """
    if not data.exists():
        raise SourceError(f"{data} does not exist")
    if data.is_file():
        return [data]
    found = []
    for folder in sorted({data, *(path for path in data.rglob("*") if path.is_dir())}):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        found += [path for path in files if _is_volume(path) and path.match(pattern)]
        if any(_is_dicom(path) and path.match(pattern) for path in files):
            found.append(folder)
    if not found:
        raise SourceError(
            f"{data} holds no .nii, .nii.gz, .npy or DICOM file that matches '{pattern}'"
        )
    return found


def _is_volume(path: Path) -> bool:
    name = path.name.lower()
    for suffix in _FILES:
        if name.endswith(suffix):
            return not name.removesuffix(suffix).endswith(_LABELS)
    return False


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() not in _DICOM:
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def scanner(info: CineInfo) -> list[str]:
    """Return vendor and field strength of a DICOM source; nothing for others."""
    if info.source.kind is not SourceKind.DICOM:
        return []
    # An optional way in: the other readers do without pydicom.
    from edge_codec.io.dicom_file import join, parsing
    from edge_codec.io.dicom_metadata import DicomHeader

    with parsing("the DICOM header"):
        dataset = join(DicomHeader.unpack(info.source.data), 0)
        vendor = str(dataset.get("Manufacturer", None) or "").strip()
        field_strength = dataset.get("MagneticFieldStrength", None)
    tesla = "" if field_strength in (None, "") else f"{float(field_strength):g} T"
    return [part for part in (vendor, tesla) if part]
