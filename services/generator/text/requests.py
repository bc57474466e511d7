"""Reading requests for text: messages to checked domain values."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import InvalidArgument
from services.generator.text.sampling import Sampling
from serving import validation as edge
from tandem.v1 import generator_service_pb2 as pb

MAX_FEATURE_BYTES: Final = 64
MAX_TEXT_BYTES: Final = 16_384
_SEEDS: Final = 2**63


@dataclass(frozen=True)
class Options:
    """How a text is written."""

    max_tokens: int
    sampling: Sampling | None


@dataclass(frozen=True)
class ExplainQuery:
    """An item to explain, in identifiers."""

    user_id: str
    history: Sequence[str]
    """Oldest first."""
    item_id: str
    feature: str
    options: Options


@dataclass(frozen=True)
class SummarizeQuery:
    """A text to summarize."""

    text: str
    options: Options


def read_explain(request: pb.ExplainRequest, most: int) -> ExplainQuery:
    """Checks a request.

    Args:
        request: the message.
        most: tokens that the model writes.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    context = request.context
    if context.user_id:
        edge.identifier(context.user_id, field="user_id")
    return ExplainQuery(
        user_id=context.user_id,
        history=edge.item_ids(
            context.history_item_ids, field="history_item_ids", limit=edge.MAX_HISTORY
        ),
        item_id=edge.identifier(request.item_id, field="item_id"),
        feature=edge.short_text(request.feature, field="feature", limit=MAX_FEATURE_BYTES),
        options=_read_options(request.options, most),
    )


def read_summarize(request: pb.SummarizeRequest, most: int) -> SummarizeQuery:
    """Checks a request.

    Args:
        request: the message.
        most: tokens that the model writes.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    if not request.text.strip():
        raise InvalidArgument("text is empty; send what is to be summarized", reason="EMPTY_TEXT")
    text = edge.short_text(request.text, field="text", limit=MAX_TEXT_BYTES)
    return SummarizeQuery(text, _read_options(request.options, most))


def _read_options(options: pb.TextOptions, most: int) -> Options:
    if options.max_tokens < 0:
        raise edge.negative("max_tokens", options.max_tokens, most, reason="NEGATIVE_MAX_TOKENS")
    return Options(min(options.max_tokens or most, most), _read_sampling(options))


def _read_sampling(options: pb.TextOptions) -> Sampling | None:
    if options.seed < 0:
        raise InvalidArgument(
            f"seed is {options.seed}; give a number from 0, or none", reason="NEGATIVE_SEED"
        )
    if not options.HasField("top_p"):
        return None
    if not 0.0 < options.top_p <= 1.0:
        raise InvalidArgument(
            f"top_p is {options.top_p}; give a number above 0 and at most 1",
            reason="TOP_P_OUT_OF_RANGE",
        )
    seed = options.seed if options.HasField("seed") else secrets.randbelow(_SEEDS)
    return Sampling(options.top_p, seed)
