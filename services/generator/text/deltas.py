"""Tokens to words, as they come."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

BROKEN: Final = "\ufffd"
"""What stands for the bytes of a character that is not whole yet."""


class Deltas:
    """What is new to read after each token of a text.

    A word is held back until it is whole, which it is when something follows that is no part of it.
    In scripts without spaces each character is a word.

    Args:
        decode: token ids to text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._said = ""

    def add(self, token: int) -> str:
        """What can be read with one token more; often nothing."""
        self._tokens.append(token)
        return self._new(_whole_words(self._decode(self._tokens)))

    def finish(self) -> str:
        """What is left at the end."""
        return self._new(self._decode(self._tokens).rstrip(BROKEN))

    def _new(self, text: str) -> str:
        """What a text has behind what was said; what was said is not taken back."""
        if not text.startswith(self._said):
            return ""
        delta = text[len(self._said) :]
        self._said = text
        return delta


def _whole_words(text: str) -> str:
    """A text up to where its last word begins."""
    for end in range(len(text), 0, -1):
        if text[end - 1] == BROKEN:
            continue
        if (end < len(text) and text[end].isspace()) or _stands_alone(text[end - 1]):
            return text[:end]
    return ""


def _stands_alone(character: str) -> bool:
    """Whether a character is a word in itself, as in Chinese and Japanese."""
    return unicodedata.east_asian_width(character) in "WF"
