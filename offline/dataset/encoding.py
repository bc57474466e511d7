"""Text files in other encodings than UTF-8: read where named, and otherwise guessed for people."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from charset_normalizer import from_bytes

from offline.dataset.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["UTF8", "to_utf8"]

UTF8: Final = "utf-8"
_SAMPLE: Final = 1 << 16
_CLOSE: Final = 0.1
"""How much messier Windows-1252, which most of such files are, may look than the best guess."""
_NAMES: Final = {"cp1252": "Windows-1252", "cp932": "Shift-JIS", "utf_16": "UTF-16"}


def to_utf8(path: Path, raw: bytes, encoding: str) -> bytes:
    """Text in UTF-8.

    Args:
        path: Named in errors.
        raw: The text.
        encoding: What it is in, by a name that Python knows.

    Raises:
        DataError: It is not in this encoding; the message says where that shows, and what the text
            is likely in.
    """
    try:
        known = codecs.lookup(encoding).name
    except LookupError:
        raise DataError(
            f"{encoding!r} is no encoding that Python knows; cp1252, shift_jis and utf-16 are some"
        ) from None
    try:
        text = raw.decode(known)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1  # rows are not told apart before this is read
        byte = f"line {line:,}: the byte 0x{raw[error.start]:02x} is not {encoding.upper()}"
        raise DataError.at(f"{byte}{_guess(raw, known)}", file=path) from None
    if known == UTF8:
        return raw
    return text.encode(UTF8)


def _guess(raw: bytes, known: str) -> str:
    """What the text is likely in, for the end of a message; empty where that cannot be told."""
    guesses = [guess for guess in from_bytes(raw[:_SAMPLE]) if guess.encoding != known]
    if not guesses:
        return ""
    usual = (g for g in guesses if g.encoding == "cp1252" and g.chaos <= guesses[0].chaos + _CLOSE)
    name = next(usual, guesses[0]).encoding
    return f": the text is likely {_NAMES.get(name, name)}, so give the encoding {name!r}"
