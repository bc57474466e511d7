"""The vocabulary of a model from scratch that writes text: pieces of words, learned from texts.

It has what the closed vocabulary has (`offline.generator.tokenizer`), with T5's special tokens at
T5's ids, tokens for users and for code levels; in the place of whole words stand pieces, by
byte-pair encoding of the training texts and of the prompts (https://arxiv.org/abs/1508.07909). Text
is lower case, as the literature's explanations are: half the pieces, so twice the examples of each.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFKC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import Digits, Metaspace, Punctuation
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import BpeTrainer

from offline.generator.tokenizer import EOS, PAD, UNK, level_tokens
from services.generator.prompts import UNKNOWN_USER, Template, rating_text, user_text

PIECES: Final = 4000
"""Of the vocabulary, at most, beside tokens for users and codes."""
CHARACTERS: Final = 300
"""That have a piece of their own; a rarer one is unknown."""
LEAST: Final = 3
"""How often a piece occurs in the texts, at least."""


def from_texts(
    texts: Iterable[str],
    templates: Iterable[Template],
    dataset: str,
    code_texts: Sequence[str],
    *,
    user_tokens: int = 0,
    ratings: int = 0,
    pieces: int = PIECES,
) -> Tokenizer:
    """Makes the vocabulary of a model that writes text and reads whole items.

    Args:
        texts: whose pieces it knows: those to learn from, and no others.
        templates: whose words it knows, too.
        dataset: how prompts name the data.
        code_texts: whose level tokens it knows.
        user_tokens: tokens that stand for users, see `user_text`.
        ratings: how many values a rating may have, see `rating_text`.
        pieces: how many, at most.
    """
    tokenizer = Tokenizer(BPE(unk_token=UNK))
    tokenizer.normalizer = Normalizers([NFKC(), Lowercase()])
    tokenizer.pre_tokenizer = PreTokenizers(
        [Metaspace(), Punctuation("isolated"), Digits(individual_digits=True)]
    )
    tokenizer.decoder = MetaspaceDecoder()
    trainer = BpeTrainer(
        vocab_size=pieces,
        min_frequency=LEAST,
        limit_alphabet=CHARACTERS,
        special_tokens=[PAD, EOS, UNK],
        show_progress=False,
    )
    prompts = [template.input for template in templates] * LEAST
    alphabet = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"]
    trainer_texts = [*texts, *prompts, dataset, UNKNOWN_USER, *alphabet]
    tokenizer.train_from_iterator(trainer_texts, trainer)
    users = [user_text(user, user_tokens) for user in range(user_tokens)]
    # What is generated comes last: the head of the model speaks about those alone.
    own = [*users, *level_tokens(code_texts), *map(rating_text, range(ratings))]
    tokenizer.add_tokens([AddedToken(text, normalized=False, lstrip=True) for text in own])
    return tokenizer
