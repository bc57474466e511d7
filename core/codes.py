"""Item codes: the text that a prompt shows, and the tokens that the decoder emits.

This is the one place that knows how codes are written: as text, one a line of `codes.txt`; as
tokens, one a row of `code_tokens.npy`, with an end and padding where codes differ in length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from core.bundle import Bundle
from core.errors import BundleError, InvalidArgument


@dataclass(frozen=True, slots=True)
class ItemCode:
    """What stands for an item in the generator."""

    text: str
    """As a prompt shows it."""
    tokens: tuple[int, ...]
    """As the decoder emits it, without end and padding."""


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
    # What a tokenizer puts around a prompt does not belong to a code.
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    rows = [[*encoding.ids, eos] for encoding in encodings]
    for text, row in zip(texts, rows, strict=True):
        if unknown in row:
            raise ValueError(f"the tokenizer does not know every part of the code {text!r}")
    lengths = {len(row) for row in rows}
    if len(lengths) == 1:
        return np.array([row[:-1] for row in rows], dtype=np.int32)
    width = max(lengths)
    return np.array([row + [pad] * (width - len(row)) for row in rows], dtype=np.int32)


@dataclass(frozen=True)
class CodeFormat:
    """How the codes of a catalog are written as tokens; see `code_tokens`."""

    levels: int
    """Tokens of a code as it is stored, end and padding included."""
    vocabulary: int
    """How many tokens the model knows."""
    eos: int
    pad: int
    ends: bool
    """Whether codes have different lengths, so that each ends with `eos`."""

    @classmethod
    def of(cls, codes: NDArray[np.int32], *, vocabulary: int, eos: int, pad: int) -> "CodeFormat":
        """The format that codes follow. Shape [items, levels]."""
        ends = bool((codes == eos).any())
        return cls(codes.shape[1], vocabulary, eos, pad, ends)

    def lengths(self, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """How many tokens each code has, without end and padding. Shape [items]."""
        lengths: NDArray[np.int64] = (~np.isin(rows, (self.eos, self.pad))).sum(axis=1)
        return lengths

    def row(self, text: str, tokens: Sequence[int]) -> NDArray[np.int32]:
        """Writes a new code as the others are stored. Shape [levels].

        Args:
            text: the code, for messages.
            tokens: its tokens, with or without the end and the padding.

        Raises:
            InvalidArgument: reason INVALID_CODE, for one that is empty, too long, of another length
                where all have the same, or made of tokens that a code cannot have.
        """
        bare = list(tokens)
        while bare and bare[-1] == self.pad:
            bare.pop()
        if bare and bare[-1] == self.eos:
            bare.pop()
        strange = [t for t in bare if not 0 <= t < self.vocabulary or t in (self.eos, self.pad)]
        if strange:
            raise self._invalid(text, f"has the token {strange[0]}, which no code can have")
        most = self.levels - self.ends
        if not bare or len(bare) > most or (len(bare) < most and not self.ends):
            wanted = f"1 to {most}" if self.ends else str(most)
            raise self._invalid(
                text, f"has {len(bare)} tokens; codes of this catalog have {wanted}"
            )
        end = [self.eos] if self.ends else []
        padding = [self.pad] * (self.levels - len(bare) - len(end))
        return np.array([*bare, *end, *padding], np.int32)

    @staticmethod
    def _invalid(text: str, problem: str) -> InvalidArgument:
        return InvalidArgument(f"the code {text!r} {problem}", reason="INVALID_CODE", code=text)


@dataclass(frozen=True)
class ItemCodes:
    """The codes of a bundle's items, by position."""

    texts: Sequence[str]
    rows: NDArray[np.int32]
    """The same as tokens, [items, levels]."""
    format: CodeFormat

    @classmethod
    def read(cls, bundle: Bundle) -> "ItemCodes":
        """Reads the codes of a bundle.

        Raises:
            BundleError: it has none, or its texts and tokens are not of as many items.
        """
        section = bundle.manifest.generator
        texts = read_code_texts(bundle.file("codes.txt"))
        rows = np.asarray(bundle.array("code_tokens", np.int32))
        if len(texts) != len(rows):
            raise BundleError(f"codes.txt has {len(texts)} lines for {len(rows)} items")
        code_format = CodeFormat.of(
            rows, vocabulary=section.vocabulary, eos=section.eos_token, pad=section.pad_token
        )
        return cls(texts, rows, code_format)

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, position: int) -> ItemCode:
        """The code of an item."""
        row = self.rows[position : position + 1]
        return ItemCode(self.texts[position], tuple(row[0, : self.format.lengths(row)[0]].tolist()))
