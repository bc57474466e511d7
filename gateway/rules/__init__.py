"""The rules of a list: what becomes of a scored pool before a caller sees it.

Pure functions, and one order (`apply_rules`):

1. Of an item that is in the pool twice, the better one stays.
2. What is excluded or seen goes. This and the pins are hard: they hold whatever they cost.
3. Boosts move what satisfies their conditions up or down.
4. Pinned items take their places.
5. Every other place, from the top, goes to the best item that no cap forbids: the one of the
   largest marginal relevance, where diversity is asked for.
6. Once the caps forbid all that is left, they are let go: no place stays empty while the pool has
   an item that may be shown.

A pool deeper than the list gives boosts, caps and diversity something to choose from (`depth`).
"""

from gateway.rules.apply import ListRules, apply_rules, depth
from gateway.rules.effects import effects

__all__ = ["ListRules", "apply_rules", "depth", "effects"]
