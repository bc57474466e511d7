"""A made-up generator that reads whole items, and the bundle that holds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from core.codes import code_tokens
from core.manifest import Precision
from offline.generator.export.files import GeneratorExport
from offline.generator.items.model import ItemT5
from offline.generator.tokenizer import from_scratch
from offline.ratings.rated import rating_codes
from services.generator.decoding.engine import UserContext
from services.generator.prompts import read_templates
from tests import tiny_bundle
from tests.generator.items.item_oracle import Oracle
from tests.generator.made_up import EOS, PAD, UNKNOWN, Served, random_t5, write_bundle_of

ITEM_PROMPTS = """\
sequential; seen; after {history}; {target}
sequential; unseen; someone in {dataset} liked {history}; {target}
direct; seen; recommend an item to {user}; {target}
direct; unseen; what would {user} like ?; {target}
"""
RATING_PROMPT = "rating; seen; rated : {history} {item}; {rating}\n"
CONTENT, MAX_HISTORY, USER_TOKENS = 6, 10, 2


def random_item_t5(codes: NDArray[np.int32], vocabulary: int = 0) -> ItemT5:
    """A model whose parts all have a say in its scores."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(codes), 32)).astype(np.float32)
    t5 = random_t5(vocabulary or int(codes.max()) + 1, {"num_decoder_layers": 1})
    model = ItemT5(t5, vectors, codes).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.t5.named_parameters():
            if parameter.ndim > 1 and not name.endswith("Attention.q.weight"):
                parameter.normal_(std=0.2)
        model.query.weight.normal_(std=0.4)
        model.query.bias.normal_(std=0.4)
        model.seen.fill_(-0.05)
    return model


@dataclass(frozen=True)
class MadeUpItems(Served):
    """A model and the bundle that was exported from it."""

    model: ItemT5
    content: NDArray[np.float32]
    """[items, CONTENT] vectors of the items' texts."""

    def exact(self, context: UserContext) -> NDArray[np.float32]:
        """The log-probability of every item, live ones and others (which have none), by numpy."""
        snapshot, engine = self.engine.snapshot, self.engine
        assert snapshot.vectors is not None
        prompt = engine.render(context)
        words = [token for token in prompt if token < engine.parts.section.vocabulary]
        live = np.flatnonzero(snapshot.catalog.live)
        scores = np.full(len(snapshot.codes), -np.inf, np.float32)
        scores[live] = Oracle.of(self.model).scores(
            words,
            context.history.tolist(),
            snapshot.codes,
            longest=MAX_HISTORY,
            table=snapshot.vectors.astype(np.float64),
            live=live.tolist(),
        )
        return scores


def write_made_up_items(
    root: Path,
    texts: list[str],
    *,
    version: str = "1",
    beams: int = 20,
    precisions: tuple[Precision, ...] = ("fp32",),
    histories: Mapping[str, list[int]] = MappingProxyType(tiny_bundle.HISTORIES),
    text_tokens: int = 0,
    prompts: str = ITEM_PROMPTS,
    ratings: Sequence[float] = (),
) -> MadeUpItems:
    """Writes a bundle with a random generator for items with the given codes."""
    prompts += RATING_PROMPT if ratings else ""
    (root / "prompts.txt").write_text(prompts, encoding="utf-8")
    tokenizer = from_scratch(
        read_templates(root / "prompts.txt"),
        "made-up",
        texts,
        user_tokens=USER_TOKENS,
        ratings=len(ratings),
        ends=False,
    )
    codes = code_tokens(tokenizer, texts, eos=EOS, pad=PAD, unknown=UNKNOWN)
    model = random_item_t5(codes, tokenizer.get_vocab_size())
    leaves = rating_codes(len(ratings), tokenizer, codes.shape[1], PAD) if ratings else None
    if leaves is not None:
        model.add_ratings(leaves[:, 0].tolist())
        assert model.rating_vectors is not None
        with torch.no_grad():
            model.rating_vectors.normal_(std=0.5)
    rng = np.random.default_rng(0)
    content = rng.normal(size=(len(texts), CONTENT)).astype(np.float32)
    parts = GeneratorExport(
        tokenizer,
        texts,
        codes,
        prompts,
        max_input_tokens=16 + MAX_HISTORY,
        max_history=MAX_HISTORY,
        beams=beams,
        precisions=precisions,
        user_tokens=USER_TOKENS,
        words=tokenizer.encode("after").ids,
        histories=[rng.integers(0, len(texts), 8).astype(np.int32) for _ in range(16)],
        content=content,
        interactions=rng.integers(0, 20, len(texts)),
        text_tokens=text_tokens,
        ratings=ratings,
        rating_codes=leaves,
    )
    bundle, engine = write_bundle_of(root, model, parts, version, histories)
    return MadeUpItems(bundle, engine, model, content)
