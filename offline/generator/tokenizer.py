"""The tokenizer of a generator, and the item codes as its tokens.

A model from scratch gets a closed vocabulary of whole words: those of the prompt templates, digits,
one token for each user or bucket of users, and one for each value of each code level. A pretrained
checkpoint keeps its own tokenizer; codes written with level tokens (`<a_12>`) are added to it,
codes written as text (`item_1081`) need no addition.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from services.generator.prompts import UNKNOWN_USER, Template, rating_text, user_text

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
"""T5's special tokens; from scratch they get T5's ids: 0, 1 and 2."""
RESPONSE = "<response>"
"""Where the answer of a decoder-only model from scratch begins."""

OWN_TOKEN: Final = re.compile(r"<[a-z]+_\d+>")
"""A token that stands for a value of a code level, for users, or for a rating; every other one is a
word."""
RATING_TOKEN: Final = re.compile(r"<rating_\d+>")
_WORD = r"<[a-z]+_\d+>|\d|[\p{L}_]+|[^\s\p{L}\d_]"


def from_scratch(
    templates: Iterable[Template],
    dataset: str,
    code_texts: Sequence[str],
    *,
    user_tokens: int = 0,
    ratings: int = 0,
    ends: bool = True,
) -> Tokenizer:
    """Makes the closed vocabulary of a model that starts from nothing.

    Args:
        templates: whose words it knows.
        dataset: how prompts name the data.
        code_texts: whose level tokens it knows.
        user_tokens: tokens that stand for users, see `user_text`.
        ratings: how many values a rating may have, each of which is a token, see `rating_text`.
        ends: whether a prompt ends with the end-of-sequence token. Where the model reads whole
            items it does not: the history is the end, so that each of its prefixes is a prompt.
    """
    splitter = Split(Regex(_WORD), behavior="removed", invert=True)
    texts = [re.sub(r"\{\w+\}", " ", template.input) for template in templates]
    texts += [dataset, " , ", UNKNOWN_USER, user_text(0), "0123456789"]
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text.lower())}
    users = [user_text(user, user_tokens) for user in range(user_tokens)]
    # What is generated comes last: the head of the model speaks about those alone.
    values = [rating_text(value) for value in range(ratings)]
    vocabulary = [PAD, EOS, UNK, *sorted(words), *users, *level_tokens(code_texts), *values]
    model = WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token=UNK)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = splitter
    if ends:
        tokenizer.post_processor = TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, 1)])
    return tokenizer


def extend(tokenizer: Tokenizer, code_texts: Sequence[str], *, ratings: int = 0) -> Tokenizer:
    """Adds to a pretrained tokenizer what codes and ratings are written with.

    Args:
        tokenizer: of a checkpoint.
        code_texts: whose level tokens it is to know.
        ratings: how many values a rating may have, see `rating_text`.
    """
    written = [*level_tokens(code_texts), *map(rating_text, range(ratings))]
    added = [AddedToken(token, lstrip=True, rstrip=True, normalized=False) for token in written]
    tokenizer.add_tokens(added)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def end_with_response(tokenizer: Tokenizer, response: str) -> Tokenizer:
    """Makes every prompt end with a response part, behind which a decoder-only model goes on.

    What the tokenizer puts before a text stays; what it puts behind one goes, because a prompt is
    not the end of what such a model reads.

    Args:
        tokenizer: of the model.
        response: text in the tokenizer's own pieces, or `RESPONSE` for a token of its own.
    """
    if response == RESPONSE:
        tokenizer.add_tokens([AddedToken(RESPONSE, special=True)])
    around, bare = (tokenizer.encode("1", add_special_tokens=own).ids for own in (True, False))
    places = range(len(around) - len(bare) + 1)
    start = next(i for i in places if around[i : i + len(bare)] == bare)
    before = around[:start]
    parts = {"<begin>": before, "<end>": tokenizer.encode(response, add_special_tokens=False).ids}
    tokenizer.post_processor = TemplateProcessing(
        single=" ".join(["<begin>"] * bool(before) + ["$A", "<end>"]),
        special_tokens=[
            {"id": name, "ids": ids, "tokens": [tokenizer.id_to_token(i) for i in ids]}
            for name, ids in parts.items()
        ],
    )
    return tokenizer


def level_ids(tokenizer: Tokenizer, code_texts: Iterable[str]) -> list[int]:
    """The ids of all level tokens that codes are written with, by level and value."""
    ids = [tokenizer.token_to_id(token) for token in level_tokens(code_texts)]
    return [id_ for id_ in ids if id_ is not None]


def level_tokens(code_texts: Iterable[str]) -> list[str]:
    """Every level token, by level and value."""
    tokens = {token for text in code_texts for token in OWN_TOKEN.findall(text)}

    def place(token: str) -> tuple[str, int]:
        level, value = token.strip("<>").rsplit("_", 1)
        return level, int(value)

    return sorted(tokens, key=place)
