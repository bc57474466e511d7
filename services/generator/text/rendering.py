"""Prompts of the families that write text, as token ids.

Unlike a prompt that asks for an item, such a prompt may hold items and a review anywhere among its
words: each run of words is encoded by itself, and an item stands between two of them as whatever
the model reads for it, one id of its own or the tokens of its code.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from services.generator.prompts import PromptError, Template, render, user_text

_ITEMS: Final = re.compile(r"(\{item\}|\{history\}|\{text\})")


@dataclass(frozen=True)
class TextQuestion:
    """What a text is asked for about."""

    user: int | None = None
    """By position; None for one who is not known."""
    item: int | None = None
    history: Sequence[int] = ()
    """Items, oldest first."""
    feature: str | None = None
    text: str = ""

    def fits(self, template: Template) -> bool:
        """Whether a template asks for nothing that is not known."""
        known = {
            "{item}": self.item is not None,
            "{history}": len(self.history) > 0,
            "{feature}": bool(self.feature),
            "{text}": bool(self.text),
        }
        return all(given or name not in template.input for name, given in known.items())

    def told(self, template: Template) -> tuple[bool, int]:
        """How much of what is known a template tells: the feature, which was asked for, first."""
        told = [name in template.input for name in ("{feature}", "{history}", "{text}")]
        return told[0], sum(told)


@dataclass(frozen=True)
class PromptRenderer:
    """How prompts are written for a model."""

    tokenizer: Tokenizer
    dataset: str
    user_tokens: int
    """See `user_text`."""
    item: Callable[[int], Sequence[int]]
    """What the model reads for an item: ids."""
    max_tokens: int
    """Ids that the model reads."""
    end: Sequence[int] = ()
    """Ids behind every prompt."""

    def ids(self, template: Template, question: TextQuestion) -> list[int]:
        """Writes a prompt; the oldest items and the end of a review are cut until it fits.

        Raises:
            PromptError: its words alone are too long.
        """
        parts = {
            "{item}": [] if question.item is None else list(self.item(question.item)),
            "{history}": [],
            "{text}": [],
        }
        runs = _ITEMS.split(template.input)
        words = [parts[run] if run in parts else self._encode(run, question) for run in runs]
        room = self.max_tokens - len(self.end) - sum(map(len, words))
        if room < 0:
            raise PromptError(f"a prompt takes {-room} tokens more than the model reads")
        if "{text}" in runs:
            parts["{text}"] += self._pieces(question.text)[:room]
            room -= len(parts["{text}"])
        if "{history}" in runs:
            parts["{history}"] += self._newest(question.history, room)
        return [token for run in words for token in run] + list(self.end)

    def _encode(self, words: str, question: TextQuestion) -> list[int]:
        named = Template("", "seen", words, "")
        user = user_text(question.user, self.user_tokens)
        feature = question.feature or ""
        return self._pieces(render(named, dataset=self.dataset, user=user, feature=feature))

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text.strip(), add_special_tokens=False).ids
        return ids if text.strip() else []

    def _newest(self, history: Sequence[int], room: int) -> list[int]:
        kept: list[int] = []
        for item in reversed(history):
            own = list(self.item(int(item)))
            if len(kept) + len(own) > room:
                break
            kept = own + kept
        return kept


def best_template(templates: Sequence[Template], question: TextQuestion) -> Template:
    """The template that tells most of what is known, the first of several.

    Where all ask for something that is not known, it is the first of them, with nothing in its
    place.
    """
    fitting = [template for template in templates if question.fits(template)]
    return max(fitting, key=question.told) if fitting else templates[0]
