"""Bundles of random models that write text, and texts by another way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from services.generator.decoding.arrays import Prompts
from services.generator.text.engine import TextEngine, TextJob
from tests.generator.made_up import (
    EOS,
    PAD,
    PROMPTS,
    Backbone,
    MadeUp,
    level_texts,
    random_levels,
    write_made_up,
)
from tests.generator.made_up_items import ITEM_PROMPTS, MadeUpItems, write_made_up_items

MAX_TOKENS = 24
ASKED = """\
explanation; seen; why would {user} like {item} after {history} ?; {text}
explanation; seen; what of its {feature} would {user} like , the item {item} ?; {text}
review; seen; in short : {text}; {text}
"""
TEXTS = level_texts(random_levels(60, (4, 5, 6)))


def talkative(model: nn.Module) -> None:
    """Weights that make a random model say one thing after another, and end now and then."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5)
            if name == "lm_head.weight":
                parameter[EOS] *= 1.5


def write_text_bundle(root: Path, *, version: str = "1", backbone: Backbone = "t5") -> MadeUp:
    """A model that reads tokens."""
    return write_made_up(
        root,
        TEXTS,
        version=version,
        backbone=backbone,
        changes={"tie_word_embeddings": False} if backbone == "t5" else {},
        change=talkative,
        text_tokens=MAX_TOKENS,
        prompts=PROMPTS + ASKED,
    )


def write_item_text_bundle(root: Path) -> MadeUpItems:
    """A model that reads whole items."""
    return write_made_up_items(root, TEXTS, text_tokens=MAX_TOKENS, prompts=ITEM_PROMPTS + ASKED)


def write_all(engine: TextEngine, jobs: Sequence[TextJob]) -> list[list[int]]:
    """The tokens of texts that are written together, ends included."""
    engine.change([], jobs, engine.encode(jobs))
    said: list[list[int]] = [[] for _ in jobs]
    for _ in range(max(job.max_tokens for job in jobs)):
        for tokens, token in zip(said, engine.step(), strict=True):
            tokens.append(token)
    engine.change([], [], [])
    return [until_end(tokens)[: job.max_tokens] for tokens, job in zip(said, jobs, strict=True)]


def by_transformers(model: Any, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """What `transformers` writes greedily, the ends included."""
    padded = Prompts.of(prompts, PAD).to_dict()
    given = {name: torch.from_numpy(array) for name, array in padded.items()}
    read = 1
    if not model.config.is_encoder_decoder:  # it wants padding on the left
        order = torch.argsort(given["attention_mask"], dim=1, stable=True)
        given = {name: array.gather(1, order) for name, array in given.items()}
        read = order.shape[1]
    written = model.generate(**given, max_new_tokens=tokens, do_sample=False, num_beams=1)
    return [until_end(row) for row in written[:, read:].tolist()]


def until_end(tokens: list[int]) -> list[int]:
    """Tokens up to the first that ends a text, this one included."""
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens
