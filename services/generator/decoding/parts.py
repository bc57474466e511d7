"""What a generator is made of, read from a bundle and checked to belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from core.bundle import Bundle, sha256
from core.codes import ItemCodes, code_tokens
from core.errors import BundleError
from core.manifest import GeneratorSection, Precision
from services.generator.catalog.coded import ITEM_PROJECTION, ITEM_VECTORS, CodedCatalog
from services.generator.decoding.graphs import Graphs, weights_file
from services.generator.decoding.providers import Compute
from services.generator.decoding.ratings import RatingParts
from services.generator.prompts import (
    DIRECT,
    EXPLANATION,
    REVIEW,
    SEQUENTIAL,
    TEXT,
    Template,
    read_templates,
    render_ids,
    select,
    user_text,
)

_CHECKED_CODES = 1000
"""Codes that are written anew at load, to see that tokenizer and codes belong together."""


@dataclass(frozen=True)
class GeneratorParts:
    """What one bundle's generator consists of, apart from its catalog, which may change."""

    section: GeneratorSection
    precision: Precision
    dataset: str
    tokenizer: Tokenizer
    template: Template
    """What is asked about a history."""
    direct: Template
    """What is asked when there is no history: names the user alone."""
    graphs: Graphs
    writing: Mapping[str, tuple[Template, ...]] = field(default_factory=dict)
    """By task, what a model that writes text is asked; empty for others."""
    ratings: RatingParts | None = None
    """What it knows of ratings; None where it has not learned them."""
    told_seen: bool = True
    """Whether a model that reads whole items is told which of them the history holds."""

    def names(self, user: int | None) -> bool:
        """Whether a prompt without a history names the user.

        A model that reads whole items was taught the names of users, and what comes first for
        somebody without one.
        """
        by_name = user is not None and self.section.user_tokens > 0
        return self.section.inputs == "tokens" or by_name

    def words(
        self,
        template: Template,
        user: int | None,
        history: Sequence[str] = (),
        **values: str,
    ) -> list[int]:
        """A rendered prompt as token ids; of a model that reads whole items, the part before them.

        Args:
            template: what is asked.
            user: the user's position in the bundle, or None for an unknown user.
            history: the codes of the items as text, oldest first, for a model that reads tokens.
            **values: what else the template has a place for.
        """
        return render_ids(
            template,
            self._encode,
            dataset=self.dataset,
            user=user_text(user, self.section.user_tokens),
            history=history,
            max_tokens=self.section.max_input_tokens,
            **values,
        )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids


def load_parts(bundle: Bundle, precision: Precision, compute: Compute) -> GeneratorParts:
    """Loads the model of a bundle.

    Args:
        bundle: a verified bundle.
        precision: one that the bundle holds.
        compute: where the model runs.

    Raises:
        BundleError: the tokenizer, the graphs and the manifest do not belong together; the message
            says which.
    """
    section = bundle.manifest.generator
    tokenizer_file = bundle.file("generator_tokenizer.json")
    weights = weights_file(precision)
    bundle.file(weights)  # the graphs open it by themselves: say so if it is missing
    expected = {
        "precision": precision,
        "weights_sha256": bundle.manifest.files[weights].sha256,
        "code_length": str(section.code_length),
        "vocabulary": str(section.vocabulary),
        "max_input_tokens": str(section.max_input_tokens),
        "inputs": section.inputs,
        "tokenizer_sha256": sha256(tokenizer_file),
    }
    templates = read_templates(bundle.file("prompts.txt"))
    return GeneratorParts(
        section=section,
        precision=precision,
        dataset=bundle.manifest.provenance.dataset,
        tokenizer=Tokenizer.from_file(str(tokenizer_file)),
        template=select(templates, SEQUENTIAL, "seen")[0],
        direct=select(templates, DIRECT, "seen")[0],
        graphs=Graphs.load(bundle, precision, compute, expected),
        writing=_written(templates) if section.text else {},
        ratings=RatingParts.read(bundle, templates),
    )


def _written(templates: Sequence[Template]) -> dict[str, tuple[Template, ...]]:
    """The templates that are trained on and answered with text, by task."""
    return {
        task: tuple(t for t in templates if (t.task, t.kind, t.output) == (task, "seen", TEXT))
        for task in (EXPLANATION, REVIEW)
    }


def load_catalog(bundle: Bundle, tokenizer: Tokenizer) -> CodedCatalog:
    """Loads the codes of a bundle's items: the first version of its catalog.

    Raises:
        BundleError: codes, tokenizer and catalog do not belong together; the message says which.
    """
    codes = ItemCodes.read(bundle)
    _check_codes(bundle, tokenizer, codes)
    section = bundle.manifest.generator
    vectors = projection = None
    if section.inputs == "items":
        vectors = np.asarray(bundle.array(ITEM_VECTORS.removesuffix(".npy"), np.float32))
        projection = np.asarray(bundle.array(ITEM_PROJECTION.removesuffix(".npy"), np.float32))
    return CodedCatalog.of(
        bundle.catalog,
        codes.texts,
        codes.rows,
        vectors=vectors,
        projection=projection,
        vocabulary=section.vocabulary,
        eos=section.eos_token,
        pad=section.pad_token,
    )


def _check_codes(
    bundle: Bundle,
    tokenizer: Tokenizer,
    item_codes: ItemCodes,
) -> None:
    section, texts, codes = bundle.manifest.generator, item_codes.texts, item_codes.rows
    shape = (bundle.manifest.items, section.code_length)
    if codes.shape != shape:
        raise BundleError(f"code_tokens.npy has the shape {codes.shape}, the manifest says {shape}")
    if codes.min() < 0 or codes.max() >= section.vocabulary:
        raise BundleError(f"code_tokens.npy has tokens outside of the {section.vocabulary} known")
    sample = np.unique(np.linspace(0, len(codes) - 1, _CHECKED_CODES).astype(int))
    pad, eos = section.pad_token, section.eos_token
    written = code_tokens(tokenizer, [texts[i] for i in sample], eos=eos, pad=pad, unknown=None)
    width = written.shape[1]
    same = width <= section.code_length and (codes[sample, :width] == written).all()
    if not same:
        raise BundleError(
            "codes.txt, written with generator_tokenizer.json, is not what code_tokens.npy holds: "
            "codes and tokenizer come from different builds"
        )
