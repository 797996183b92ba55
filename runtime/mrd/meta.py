"""Meta attributes of MRD images: a small XML document of names and values.

Attributes of images that pass through are never parsed and written again; this is for the few that
the server looks at or adds. Documents with a DOCTYPE are refused: they can make a few bytes grow
to gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat
from xml.sax.saxutils import escape

from edge_codec.errors import ProtocolError

_OPEN, _CLOSE = b"<ismrmrdMeta>", b"</ismrmrdMeta>"
_START = b'<?xml version="1.0"?>\n' + _OPEN


def pack_meta(values: Mapping[str, str]) -> bytes:
    """Return a document of these names and values."""
    return _START + _entries(values) + _CLOSE


def add_meta(attributes: bytes, values: Mapping[str, str]) -> bytes:
    """Return the attributes of an image with more entries; a document of its own where it cannot.

    What an image has that is no such document is left out then: use this only where the image is
    not to be what it was.
    """
    body, close, rest = attributes.rpartition(_CLOSE)
    if not close:
        return pack_meta(values)
    return body + _entries(values) + close + rest


def unpack_meta(attributes: bytes) -> dict[str, str]:
    """Return names and first values, bytes from outside.

    Raises
    ------
    ProtocolError
        If the bytes are no XML document, or have a DOCTYPE.
    """
    found: dict[str, str] = {}
    name = ""
    for path, text in read_xml(attributes):
        if path == ("ismrmrdMeta", "meta", "name"):
            name = text
        elif path == ("ismrmrdMeta", "meta", "value"):
            found.setdefault(name, text)
        elif path == ("ismrmrdMeta", "meta"):
            name = ""
    return found


def read_xml(data: bytes, limit: int = 100_000) -> list[tuple[tuple[str, ...], str]]:
    """Return the elements of a document: path of names without their prefixes, and text.

    Parameters
    ----------
    data : bytes
        Bytes from outside; NULs at the end are left out.
    limit : int
        How many elements are read.

    Returns
    -------
    list of (tuple of str, str)
        In the order of the end tags.

    Raises
    ------
    ProtocolError
        If the bytes are no XML document, have a DOCTYPE, or too many elements.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    path: list[str] = []
    texts: list[list[str]] = []
    found: list[tuple[tuple[str, ...], str]] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        del attributes
        if len(path) >= 64 or len(found) >= limit:
            raise ProtocolError(f"XML of more than {limit} elements or 64 levels")
        path.append(name.rpartition(":")[2])
        texts.append([])

    def end(name: str) -> None:
        del name
        found.append((tuple(path), "".join(texts.pop()).strip()))
        path.pop()

    def refuse(*arguments: object) -> None:
        del arguments
        raise ProtocolError("XML with a DOCTYPE is refused; send it without")

    def text(data: str) -> None:
        if texts:
            texts[-1].append(data)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data.rstrip(b"\0"), True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter: odd encodings
        raise ProtocolError(f"no XML document: {error}") from error
    return found


def _entries(values: Mapping[str, str]) -> bytes:
    return "".join(
        f"<meta><name>{escape(name)}</name><value>{escape(value)}</value></meta>"
        for name, value in values.items()
    ).encode()
