"""What a model that writes text is asked: prompts about an item and a user, and about a text."""

from dataclasses import dataclass

from core.errors import FailedPrecondition, InvalidArgument
from services.generator.decoding.engine import GeneratorEngine, UserContext
from services.generator.prompts import EXPLANATION, REVIEW, PromptError, Template
from services.generator.text.rendering import PromptRenderer, TextQuestion, best_template


@dataclass(frozen=True)
class TextPrompts:
    """Renders the prompts of one engine, as training did.

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
        newest = context.history[-self.engine.parts.section.max_history :].tolist()
        asked = TextQuestion(context.user, item, newest, feature or None)
        try:
            return self._ids(EXPLANATION, asked)
        except PromptError as error:
            raise InvalidArgument(
                f"feature {feature!r} leaves the model no room; {error}", reason="TEXT_TOO_LONG"
            ) from error

    def summarize(self, text: str) -> list[int]:
        """What a text says in short, as token ids; as much of its beginning as there is room for.

        Raises:
            FailedPrecondition: reason NO_TEXT: the model was not taught to.
        """
        return self._ids(REVIEW, TextQuestion(text=text))

    def of(self, template: Template, question: TextQuestion) -> list[int]:
        """A question by one template, as token ids."""
        parts = self.engine.parts
        section, tokenizer = parts.section, parts.tokenizer
        whole = section.inputs == "items"
        texts = self.engine.snapshot.code_texts

        def item_ids(item: int) -> list[int]:
            if whole:
                return [section.vocabulary + item]
            return list(tokenizer.encode(texts[item], add_special_tokens=False).ids)

        end = () if whole else tuple(tokenizer.encode("").ids)
        renderer = PromptRenderer(
            tokenizer, parts.dataset, section.user_tokens, item_ids, section.max_input_tokens, end
        )
        return renderer.ids(template, question)

    def _ids(self, task: str, question: TextQuestion) -> list[int]:
        templates = self.engine.parts.writing.get(task, ())
        if not templates:
            raise FailedPrecondition(
                f"the bundle's model was not taught the task {task!r}; build one with it",
                reason="NO_TEXT",
            )
        return self.of(best_template(templates, question), question)
