"""Codes for items that come while the catalog is served.

The generator knows an item by its code, and of the beginning of a code it knows what the items that
share it have in common. So a new item takes the beginning of the code of an item that it is like:
as long a one as has a free code below it. Every token of a new code stands where it stands in codes
that the model was trained on. The rule is the same for every indexing.
"""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from core.codes import ItemCode, ItemCodes
from core.errors import BundleError, FailedPrecondition


@dataclass(frozen=True)
class Alphabet:
    """What codes can be made of: for each level its tokens, and how each is written.

    Beginnings of codes are numbers here, in a positional system whose digits are the ranks of
    tokens at their level: the beginnings that are one token longer than `n` are `n * size + rank`.
    """

    tokens: tuple[tuple[int, ...], ...]
    """By level, ascending."""
    texts: tuple[tuple[str, ...], ...]
    """The same as text."""

    @classmethod
    def of(cls, texts: Sequence[str], rows: NDArray[np.int32], tokenizer: Tokenizer) -> "Alphabet":
        """Reads the alphabet off codes of equal length, int32 [codes, levels]."""
        tokens, written = [], []
        for level, column in enumerate(rows.T):
            values, examples = np.unique(column, return_index=True)
            codes = [texts[i] for i in examples]
            spans = [encoding.offsets[level] for encoding in tokenizer.encode_batch(codes)]
            tokens.append(tuple(values.tolist()))
            written.append(tuple(code[a:b] for code, (a, b) in zip(codes, spans, strict=True)))
        return cls(tuple(tokens), tuple(written))

    def __len__(self) -> int:
        return len(self.tokens)

    def room(self, length: int) -> int:
        """How many codes can begin with the same `length` tokens."""
        return math.prod(len(level) for level in self.tokens[length:])

    def numbers(self, rows: NDArray[np.int32], length: int) -> NDArray[Any]:
        """The first `length` tokens of many codes as numbers."""
        # In Python's own integers where codes are too many for 64 bits.
        kind = np.int64 if self.room(0) < 2**63 else np.object_
        numbers: NDArray[Any] = np.zeros(len(rows), kind)
        for level in range(length):
            tokens = np.array(self.tokens[level])
            numbers = numbers * len(tokens) + np.searchsorted(tokens, rows[:, level])
        return numbers

    def number(self, tokens: Sequence[int]) -> int | None:
        """The beginning of a code as a number; None if the alphabet has not all of its tokens."""
        number = 0
        for level, token in zip(self.tokens, tokens, strict=False):
            rank = bisect.bisect_left(level, token)
            if rank == len(level) or level[rank] != token:
                return None
            number = number * len(level) + rank
        return number

    def code(self, number: int) -> ItemCode:
        """The code that a number is."""
        ranks = []
        for level in reversed(self.tokens):
            number, rank = divmod(number, len(level))
            ranks.append(rank)
        ranks.reverse()
        return ItemCode(
            "".join(level[rank] for level, rank in zip(self.texts, ranks, strict=True)),
            tuple(level[rank] for level, rank in zip(self.tokens, ranks, strict=True)),
        )


class CodeAllocator:
    """Which codes are in use. For one thread.

    Args:
        codes: of the bundle's items.
        tokenizer: tells which part of a text is which token.

    Raises:
        BundleError: there are no codes.
    """

    def __init__(self, codes: ItemCodes, tokenizer: Tokenizer) -> None:
        if not len(codes):
            raise BundleError("there are no codes to make others like")
        lengths = codes.format.lengths(codes.rows)
        # New codes are as long as the longest are, and so never the same as a shorter one.
        longest = np.flatnonzero(lengths == lengths.max()).tolist()
        rows = codes.rows[longest, : lengths.max()]
        self._alphabet = Alphabet.of([codes.texts[i] for i in longest], rows, tokenizer)
        self._used: list[Counter[int]] = []
        """By length, how many codes in use have a beginning."""
        for length in range(len(self._alphabet) + 1):
            values, counts = np.unique(self._alphabet.numbers(rows, length), return_counts=True)
            self._used.append(Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))))
        self._journal: list[tuple[ItemCode, int]] = []

    def allocate(self, near: Iterable[ItemCode], own: ItemCode | None = None) -> ItemCode:
        """Takes a free code into use.

        Args:
            near: the codes of items that the new one is like, most alike first.
            own: the code that the item has had; it is released, and given again if it would do.

        Raises:
            FailedPrecondition: reason NO_FREE_CODE.
        """
        models = list(dict.fromkeys(near))
        if own is not None:
            self.release(own)
        for length in reversed(range(len(self._alphabet))):
            for model in models if length else [ItemCode("", ())]:
                beginning = self._alphabet.number(model.tokens[:length])
                if beginning is None or len(model.tokens) < length:
                    continue
                if self._used[length][beginning] < self._alphabet.room(length):
                    if own is not None and own.tokens[:length] == model.tokens[:length]:
                        code = own
                    else:
                        code = self._alphabet.code(self._first_free(beginning, length))
                    self.reserve(code)
                    return code
        raise FailedPrecondition(
            f"all {self._alphabet.room(0):,} codes that the generator can spell are in use; "
            "delete items, or build a bundle with these items, which makes room for more",
            reason="NO_FREE_CODE",
        )

    def reserve(self, code: ItemCode) -> None:
        """Takes a code into use."""
        self._count(code, 1)

    def release(self, code: ItemCode) -> None:
        """Lets another item have a code."""
        self._count(code, -1)

    def savepoint(self) -> int:
        """Names the codes as they are, for `rollback`."""
        return len(self._journal)

    def rollback(self, savepoint: int) -> None:
        """Puts the codes back to what they were at a savepoint."""
        undone = self._journal[savepoint:]
        for code, change in reversed(undone):
            self._count(code, -change)
        del self._journal[savepoint:]

    def commit(self) -> None:
        """Keeps all changes, and forgets the savepoints."""
        self._journal.clear()

    def _first_free(self, beginning: int, length: int) -> int:
        """The first code with a beginning, which has room."""
        for level in range(length, len(self._alphabet)):
            room = self._alphabet.room(level + 1)
            first = beginning * len(self._alphabet.tokens[level])
            beginning = next(n for n in itertools.count(first) if self._used[level + 1][n] < room)
        return beginning

    def _count(self, code: ItemCode, change: int) -> None:
        self._journal.append((code, change))
        if len(code.tokens) < len(self._alphabet):
            return
        for length, used in enumerate(self._used):
            number = self._alphabet.number(code.tokens[:length])
            if number is None:
                return
            used[number] += change
            if not used[number]:
                del used[number]
