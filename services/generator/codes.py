"""Item codes: the text that a prompt shows, and the tokens that the decoder emits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


def read_code_texts(path: Path) -> list[str]:
    """Reads `codes.txt`: the code of one item a line, in position order."""
    return path.read_text(encoding="utf-8").splitlines()


def write_code_texts(path: Path, texts: Sequence[str]) -> None:
    """Writes what `read_code_texts` reads."""
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def code_tokens(
    tokenizer: Tokenizer, texts: Sequence[str], *, eos: int, pad: int, unknown: int | None
) -> NDArray[np.int32]:
    """Writes codes as token ids. Shape [items, levels].

    Codes that all have the same length say by themselves where they end. Otherwise one may be the
    beginning of another, so each ends with the end-of-sequence token, and shorter ones are padded.

    Raises:
        ValueError: a code holds a token that the tokenizer does not know.
    """
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    rows = [row if row and row[-1] == eos else [*row, eos] for row in rows]
    for text, row in zip(texts, rows, strict=True):
        if unknown in row:
            raise ValueError(f"the tokenizer does not know every part of the code {text!r}")
    lengths = {len(row) for row in rows}
    if len(lengths) == 1:
        return np.array([row[:-1] for row in rows], dtype=np.int32)
    width = max(lengths)
    return np.array([row + [pad] * (width - len(row)) for row in rows], dtype=np.int32)
