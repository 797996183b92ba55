"""The zoo's manifests: which files a model is made of, and whether they are unaltered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from edge_codec.errors import EngineError
from edge_codec.spec import ModelId

ZOO = Path(__file__).parent / "zoo"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model of the zoo.

    Attributes
    ----------
    name : str
        Name on the command line.
    folder : pathlib.Path
        Where its files are.
    version : str
        Version of the weights.
    n_codes : int
        Size of the codebook; 0 without one.
    license : str
        SPDX expression of the weights' licence.
    hashes : dict of str to str
        SHA-256 of each file by name.
    decoding : tuple of str
        Files that decoding depends on, in the order of the stream header's hashes; none where no
        stream needs the model.
    check : int
        CRC-32 of the frame that the decoder makes of tokens 0 to 1023 in 32 rows, or of what
        `edge_codec.runtime.segmenter.Segmenter.probe` says: any backend whose arithmetic is right
        finds the same. 0 for a model that no backend runs.
    """

    name: str
    folder: Path
    version: str
    n_codes: int
    license: str
    hashes: dict[str, str]
    decoding: tuple[str, ...]
    check: int

    def decoding_hashes(self) -> tuple[bytes, ...]:
        """Return the digests that a stream header names."""
        return tuple(bytes.fromhex(self.hashes[name]) for name in self.decoding)

    def read(self, name: str) -> bytes:
        """Return a file's bytes after checking them.

        Raises
        ------
        EngineError
            If the file is missing or is not the one that the manifest describes.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path} cannot be read ({error}); reinstall edge-codec") from error
        found = hashlib.sha256(data).hexdigest()
        if found != self.hashes[name]:
            raise EngineError(
                f"{path} has SHA-256 {found[:16]}..., not {self.hashes[name][:16]}...;"
                " the file was altered, reinstall edge-codec"
            )
        return data


def load_manifest(model: ModelId | str, zoo: Path = ZOO) -> Manifest:
    """Read the manifest of a model of the zoo.

    Parameters
    ----------
    model : ModelId or str
        A model of the base layer, or the name of a folder of the zoo: networks that no stream
        names, like `segmentation`, have no id.
    zoo : Path
        Folder of the models' folders.

    Raises
    ------
    EngineError
        If it is missing or malformed, or the name is none of a folder.
    """
    name = model.name.lower() if isinstance(model, ModelId) else model
    if not name.isidentifier():
        raise EngineError(
            f"'{name}' is no name of a model; the zoo has {', '.join(model_names(zoo))}"
        )
    folder = zoo / name
    path = folder / "manifest.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(
            name=str(fields["name"]),
            folder=folder,
            version=str(fields["version"]),
            n_codes=int(fields.get("n_codes", 0)),
            license=str(fields["license"]),
            hashes={str(name): str(digest) for name, digest in fields["sha256"].items()},
            decoding=tuple(fields["decoding"]),
            check=int(fields.get("check", 0)),
        )
        manifest.decoding_hashes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{path} is missing or malformed ({error!r}); reinstall") from error
    return manifest


def model_names(zoo: Path = ZOO) -> list[str]:
    """Return the names that `load_manifest` takes, in alphabetical order."""
    return sorted(path.parent.name for path in zoo.glob("*/manifest.json"))
