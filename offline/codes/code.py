"""What a code is: a short row of small numbers that names one item.

A generator emits a code from its first level to its last, so items that share a prefix share
what the generator knows of them. Levels are bounded, `0 <= levels[i, l] < level_sizes[l]`, which
bounds the vocabulary, and no two items have the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["CodeKind", "Codes", "CodesConfig", "branching", "code_text"]

CodeKind = Literal["random", "sequential", "collaborative", "semantic", "behavior"]

FEWEST_BRANCHES = 2


@dataclass(frozen=True)
class CodesConfig:
    """How codes are made.

    Attributes:
        levels: The length of every code.
        branching: Values per level; by default the fewest that leave some codes for new items.
        seed: Of the permutation and of k-means.
        window: For collaborative codes: how many places apart two items of a training sequence
            may be to count as occurring together.
        decay: Their weight, per place further apart.
    """

    levels: int = 3
    branching: int | None = None
    seed: int = 0
    window: int = 10
    decay: float = 0.85

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= len(ascii_lowercase):
            raise ValueError(f"a code has 1 to {len(ascii_lowercase)} levels, not {self.levels}")


@dataclass(frozen=True)
class Codes:
    """One code per item.

    Attributes:
        kind: The rule that assigned them.
        levels: `[items, levels]`, every row different.
        level_sizes: How many values each level may take.
    """

    kind: CodeKind
    levels: NDArray[np.int32]
    level_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.levels.shape[1:] != (len(self.level_sizes),):
            raise ValueError(f"codes of shape {self.levels.shape} for levels {self.level_sizes}")
        if (self.levels < 0).any() or (self.levels >= np.array(self.level_sizes)).any():
            raise ValueError(f"a code is outside its levels {self.level_sizes}")
        if len(np.unique(self.levels, axis=0)) != len(self.levels):
            raise ValueError("two items have the same code")

    def texts(self) -> list[str]:
        """Every item's code in writing, by item index."""
        return [code_text(row) for row in self.levels.tolist()]


def code_text(levels: Iterable[int]) -> str:
    """Write a code as the tokens of its levels.

    >>> code_text([12, 3, 0])
    '<a_12><b_3><c_0>'
    """
    return "".join(
        f"<{letter}_{value}>" for letter, value in zip(ascii_lowercase, levels, strict=False)
    )


def branching(items: int, config: CodesConfig, slack: float = 1.25) -> int:
    """How many values a level takes: as configured, or the fewest that fit `slack * items`.

    Raises:
        ValueError: The configured number is too small for the catalog.
    """
    if config.branching is None:
        fewest = max(FEWEST_BRANCHES, int((slack * items) ** (1.0 / config.levels)))
        while fewest**config.levels < slack * items:  # the root was rounded down
            fewest += 1
        return fewest
    if config.branching**config.levels < items:
        raise ValueError(
            f"{config.levels} levels of {config.branching} values name "
            f"{config.branching**config.levels:,} items, not {items:,}: use more of either"
        )
    return config.branching
