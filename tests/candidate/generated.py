"""Requests made up from the contract: any message, sensible here and there, extreme elsewhere."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.candidate.made_up import BEHAVIOR, CONTENT

_TEXTS: Final = (
    *("i0", "i1", "i2", "i29", "genre", "year", "Comedy", "Drama", "a Film", "made-up/1"),
    *("", " ", "\0", "é" * 3, "\U0001f3ac", "x" * 600, "Film " * 1_500, "\u202e", "../x", "'; --"),
)
_INTEGERS: Final = (0, 1, 2, 10, 50, 1_000, 1_001, -1, 2**31 - 1, -(2**31))
_LONG_INTEGERS: Final = (*_INTEGERS, 2**63 - 1, -(2**63))
_REALS: Final = (
    *(0.0, 0.5, 1.0, 3.0, 1995.0, -0.0, -1.0, 1e-45, 1e38, -1e38),
    *(math.nan, math.inf, -math.inf),
)
_LENGTHS: Final = (0, 1, 1, 2, 3, 5)
_HUGE: Final = (257, 1_001, 10_001)
_DEEPEST: Final = 14

T = TypeVar("T")


class Generator:
    """Makes messages; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self._scalars: dict[int, Callable[[], Any]] = {
            FieldDescriptor.CPPTYPE_STRING: lambda: self._pick(_TEXTS),
            FieldDescriptor.CPPTYPE_BOOL: lambda: self._pick((False, True)),
            FieldDescriptor.CPPTYPE_INT32: lambda: self._pick(_INTEGERS),
            FieldDescriptor.CPPTYPE_ENUM: lambda: self._pick(_INTEGERS),
            FieldDescriptor.CPPTYPE_INT64: lambda: self._pick(_LONG_INTEGERS),
            FieldDescriptor.CPPTYPE_FLOAT: lambda: self._pick(_REALS),
            FieldDescriptor.CPPTYPE_DOUBLE: lambda: self._pick(_REALS),
        }

    def request(self, kind: Descriptor) -> bytes:
        """A message of a kind; one in ten is no message any more."""
        raw = bytearray(self._message(kind, 0).SerializePartialToString())
        if self._random.random() < 0.1:
            for _ in range(self._random.randint(1, 8)):
                at = self._random.randrange(len(raw) + 1)
                raw[at : at + self._random.randint(0, 2)] = self._random.randbytes(2)
        return bytes(raw)

    def _message(self, kind: Descriptor, depth: int) -> Message:
        message = GetMessageClass(kind)()
        for choice in kind.oneofs:
            if self._random.random() < 0.9:
                self._fill(message, self._pick(choice.fields), depth)
        for field in kind.fields:
            if field.containing_oneof is None and self._random.random() < 0.5:
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        kind: Any = field.message_type
        if kind is None:
            scalar = self._scalars[field.cpp_type]
            if field.is_repeated:
                getattr(message, field.name).extend(scalar() for _ in range(self._length(field)))
            else:
                setattr(message, field.name, scalar())
        elif depth < _DEEPEST:
            self._fill_messages(message, field, kind, depth + 1)

    def _fill_messages(
        self, message: Message, field: FieldDescriptor, kind: Any, depth: int
    ) -> None:
        there = getattr(message, field.name)
        if kind.GetOptions().map_entry:
            for _ in range(self._pick(_LENGTHS)):
                value = self._message(kind.fields_by_name["value"].message_type, depth)
                there[self._pick(_TEXTS)].CopyFrom(value)
        elif field.is_repeated:
            there.extend(self._message(kind, depth) for _ in range(self._length(field, depth)))
        else:
            there.CopyFrom(self._message(kind, depth))
            there.SetInParent()

    def _length(self, field: FieldDescriptor, depth: int = 0) -> int:
        if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT and self._random.random() < 0.8:
            return self._pick((CONTENT, BEHAVIOR))
        if depth < 3 and self._random.random() < 0.02:
            return self._pick(_HUGE)
        return self._pick(_LENGTHS)

    def _pick(self, values: Sequence[T]) -> T:
        return self._random.choice(values)
