"""The tokens of a generator, and what those of another one have learned for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from offline.generator.tokenizer import OWN_TOKEN, RATING_TOKEN
from offline.warm.rows import FloatArray, Kept, set_means
from services.generator.prompts import user_text

TABLES: Final = ("shared.weight", "model.embed_tokens.weight", "lm_head.weight")
"""Parameters with a row for each token."""


@dataclass(frozen=True)
class Vocabulary:
    """What the tokens of a generator stand for."""

    tokenizer: Tokenizer
    codes: NDArray[np.int32]
    """[items, levels] token ids."""
    item_ids: Sequence[str]
    user_ids: Sequence[str]
    user_tokens: int
    """Tokens that stand for users."""

    def words(self) -> dict[str, int]:
        """The tokens that stand for neither users nor codes, by their texts."""
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        return {
            text: token
            for text, token in vocabulary.items()
            if RATING_TOKEN.fullmatch(text) or not OWN_TOKEN.fullmatch(text)
        }

    def tokens_of_users(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """The token that stands for each of some users."""
        texts = [user_text(int(user), self.user_tokens) for user in users]
        return np.array([self.tokenizer.token_to_id(text) for text in texts], dtype=np.int64)


def token_rows(
    start: FloatArray, now: Vocabulary, stored: FloatArray, before: Vocabulary
) -> FloatArray:
    """A table of tokens that begins as one that was trained.

    A word keeps its row. A user's token gets the row that the user had before, and a code's token
    the mean of those that its items had at the same level, since codes may be numbered anew. All
    other rows are left as they are.

    Args:
        start: float32 [tokens or more, dimension], as from scratch.
        now: what its tokens stand for.
        stored: float32 [tokens then or more, dimension].
        before: what those stood for.
    """
    items = Kept.of(now.item_ids, before.item_ids)
    levels = range(min(now.codes.shape[1], before.codes.shape[1]))
    said = [(now.codes[items.now, n], before.codes[items.before, n]) for n in levels]
    if now.user_tokens and before.user_tokens:
        users = Kept.of(now.user_ids, before.user_ids)
        said.append((now.tokens_of_users(users.now), before.tokens_of_users(users.before)))
    rows = start.copy()
    for ours, theirs in said:
        set_means(rows, ours, stored[theirs])
    words, known = now.words(), before.words()
    for text in words.keys() & known.keys():
        rows[words[text]] = stored[known[text]]
    return rows
