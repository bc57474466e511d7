"""What a model that writes text is asked: prompts about an item and a user, and about a text."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import FailedPrecondition, InvalidArgument
from services.generator.decoding.engine import GeneratorEngine, UserContext
from services.generator.prompts import (
    EXPLANATION,
    REVIEW,
    TEXT,
    PromptError,
    Template,
    render,
    render_ids,
    user_text,
)

FEATURE, HISTORY, ITEM = "{feature}", "{history}", "{item}"
_POSITIONS: Final = re.compile(r"(\{history\}|\{item\})")


@dataclass(frozen=True)
class TextPrompts:
    """Renders the prompts of one engine.

    Args:
        engine: over the version of the catalog that items are positions in.
    """

    engine: GeneratorEngine

    def explain(self, context: UserContext, item: int, feature: str) -> list[int]:
        """Why a user likes an item, as token ids; an item of a model that reads whole items is as
        in `DecodingJob`.

        Args:
            context: the user.
            item: a position in the catalog.
            feature: a word of what is to be written; empty for none.

        Raises:
            FailedPrecondition: reason NO_TEXT: the model was not taught to.
            InvalidArgument: reason TEXT_TOO_LONG: there is no room for the feature.
        """
        section = self.engine.parts.section
        template = self._template(EXPLANATION, lambda t: (FEATURE in t.input) == bool(feature))
        newest = context.history[-section.max_history :].tolist()
        values = {"user": user_text(context.user, section.user_tokens), "feature": feature}
        write = self._positions if section.inputs == "items" else self._codes
        try:
            return write(template, newest, item, values)
        except PromptError as error:
            raise InvalidArgument(
                f"feature {feature!r} leaves the model no room; {error}", reason="TEXT_TOO_LONG"
            ) from error

    def summarize(self, text: str) -> list[int]:
        """What a text says in short, as token ids; as much of its beginning as there is room for.

        Raises:
            FailedPrecondition: reason NO_TEXT: the model was not taught to.
        """
        template = self._template(REVIEW, lambda t: TEXT in t.input)
        room = self.engine.parts.section.max_input_tokens
        kept = text.split()
        while True:
            ids = self._encode(self._filled(template, {"text": " ".join(kept)}))
            if len(ids) <= room or not kept:
                return ids
            kept = kept[: min(len(kept) - 1, len(kept) * room // len(ids))]

    def _codes(
        self, template: Template, history: Sequence[int], item: int, values: Mapping[str, str]
    ) -> list[int]:
        """Items as the tokens of their codes."""
        texts, parts = self.engine.snapshot.code_texts, self.engine.parts
        return render_ids(
            template,
            self._encode,
            dataset=parts.dataset,
            history=[texts[i] for i in history],
            item=texts[item],
            max_tokens=parts.section.max_input_tokens,
            **values,
        )

    def _positions(
        self, template: Template, history: Sequence[int], item: int, values: Mapping[str, str]
    ) -> list[int]:
        """Items as positions behind the vocabulary; the oldest of a history go until all fits."""
        section = self.engine.parts.section
        items = {HISTORY: history, ITEM: [item]}
        pieces = [
            [section.vocabulary + position for position in items[piece]]
            if piece in items
            else self._encode(self._filled(Template("", "seen", piece, ""), values))
            for piece in _POSITIONS.split(template.input)
            if piece.strip()
        ]
        ids = [token for piece in pieces for token in piece]
        if (over := len(ids) - section.max_input_tokens) <= 0:
            return ids
        if over > len(history):
            raise PromptError(f"{len(ids)} positions, and {section.max_input_tokens} are read")
        return self._positions(template, history[over:], item, values)

    def _template(self, task: str, suits: Callable[[Template], bool]) -> Template:
        """The first of a task that suits, or else its first."""
        templates = self.engine.parts.writing.get(task, ())
        if not templates:
            raise FailedPrecondition(
                f"the bundle's model was not taught the task {task!r}; build one with it",
                reason="NO_TEXT",
            )
        return next(filter(suits, templates), templates[0])

    def _filled(self, template: Template, values: Mapping[str, str]) -> str:
        given = {"user": user_text(None), **values}
        return render(template, dataset=self.engine.parts.dataset, **given)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.engine.parts.tokenizer.encode(text).ids
        return ids
