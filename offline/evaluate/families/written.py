"""The rows of the families that write text: the model by its graphs, beside a constant text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.bundle import Bundle
from core.errors import BundleError
from offline.evaluate.families.constants import best_constants
from offline.evaluate.families.figures import FamilyReport, FamilyRow
from offline.evaluate.families.texts import TextScores
from offline.evaluate.protocol import Split, sample
from offline.reviews.examples import TextExample, TextFamily
from offline.reviews.held_out import FILE, HeldOut, read_held_out
from services.generator.decoding.engine import GeneratorEngine
from services.generator.prompts import Kind, Template, read_templates, select
from services.generator.text.engine import TextEngine, TextJob
from services.generator.text.prompts import TextPrompts
from services.generator.text.rendering import TextQuestion, best_template

Advance = Callable[[int], None]
_TOGETHER: Final = 32
"""Texts that are written at once."""
_JUDGED: Final = 300
"""Validation texts by which the constant is chosen, among some eighty."""


@dataclass(frozen=True)
class Writer:
    """A bundle's model, asked for texts."""

    engine: GeneratorEngine

    def write(
        self, templates: Sequence[Template], questions: Sequence[TextQuestion], advance: Advance
    ) -> list[str]:
        """The likeliest text for each question, each by the template that tells most."""
        asked = TextPrompts(self.engine)
        prompts = [asked.of(best_template(templates, question), question) for question in questions]
        texts = [""] * len(prompts)
        order = np.argsort([len(prompt) for prompt in prompts], kind="stable").tolist()
        for start in range(0, len(order), _TOGETHER):
            places = order[start : start + _TOGETHER]
            written = self._greedy([prompts[place] for place in places])
            for place, tokens in zip(places, written, strict=True):
                texts[place] = self.engine.parts.tokenizer.decode(tokens)
            advance(len(places))
        return texts

    def _greedy(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        engine = TextEngine(self.engine.parts)
        section = engine.section
        jobs = [TextJob(self.engine.snapshot, prompt, section.max_tokens) for prompt in prompts]
        engine.change([], jobs, engine.encode(jobs))
        texts: list[list[int]] = [[] for _ in jobs]
        going = list(range(len(jobs)))
        for _ in range(section.max_tokens):
            tokens = dict(zip(going, engine.step(), strict=True))
            kept = [at for at, row in enumerate(going) if tokens[row] != section.end_token]
            going = [going[at] for at in kept]
            for row in going:
                texts[row].append(tokens[row])
            if not going:
                break
            engine.change(kept, [], [])
        return texts


def text_report(
    bundle: Bundle,
    family: TextFamily,
    split: Split,
    examples: int | None,
    advance: Advance,
) -> FamilyReport:
    """Evaluates a family that writes text.

    Args:
        bundle: whose model writes.
        family: which family.
        split: test or validation.
        examples: only so many, picked at random.
        advance: is told how many texts were written.

    Raises:
        BundleError: the bundle has no texts to compare with.
    """
    held = _held_out(bundle, family)
    own = held.test if split == "test" else held.validation
    asked = [own[place] for place in sample(own, examples)]
    wanted = [example.target for example in asked]
    writer = Writer(GeneratorEngine.load(bundle))
    templates = read_templates(bundle.file("prompts.txt"))
    rows = []
    for kind, told in _ways(family):
        texts = writer.write(
            select(templates, family, kind), [_question(e, told) for e in asked], advance
        )
        rows.append(TextScores.of(texts, wanted).row(_name(kind, told, family)))
    judged = [held.validation[place].target for place in sample(held.validation, _JUDGED)]
    constants = best_constants(held.constants, judged)
    rows += _constant_rows(constants, wanted)
    notes = [f"the constant by {metric}: {text}" for metric, text in constants.items()]
    dataset = bundle.manifest.provenance.dataset
    return FamilyReport(bundle.version, dataset, family, split, len(asked), rows, notes)


def _held_out(bundle: Bundle, family: TextFamily) -> HeldOut:
    held = read_held_out(bundle.file(FILE), family) if FILE in bundle.manifest.files else None
    if held is None:
        raise BundleError(
            f"{bundle.path} has no {family} to compare with: build it with --review-column, "
            f"--summary-column and --family {family}=1"
        )
    return held


def _ways(family: TextFamily) -> list[tuple[Kind, bool]]:
    """With which prompts, and whether told the feature."""
    if family == "review":
        return [("seen", False), ("unseen", False)]
    return [("seen", True), ("seen", False), ("unseen", True)]


def _question(example: TextExample, told: bool) -> TextQuestion:
    return example.question(told=told)


def _name(kind: Kind, told: bool, family: TextFamily) -> str:
    if family == "review":
        return f"generator/{kind}"
    return f"generator/{kind}, {'told' if told else 'not told'} the feature"


def _constant_rows(constants: dict[str, str], wanted: Sequence[str]) -> list[FamilyRow]:
    return [
        TextScores.of([text] * len(wanted), wanted).row(f"constant, best by {metric}")
        for metric, text in constants.items()
    ]
