"""What tests of the generator's RPCs share."""

from collections.abc import Iterable

from services.generator.batching import Batcher
from services.generator.decoding.engine import DecodingJob, RankingAnswer
from services.generator.servicer import GeneratorServicer
from tandem.v1 import common_pb2
from tests.generator.made_up import MadeUp


def make_servicer(
    made_up: MadeUp, batcher: Batcher[DecodingJob, RankingAnswer]
) -> GeneratorServicer:
    users = made_up.bundle.histories.user_index
    return GeneratorServicer(made_up.engine, users, made_up.bundle.version, batcher)


def ids(*positions: int) -> list[str]:
    return [f"i{p}" for p in positions]


def item_ids(items: Iterable[common_pb2.ScoredItem]) -> list[str]:
    return [item.item_id for item in items]


def scores(items: Iterable[common_pb2.ScoredItem]) -> list[float]:
    return [item.score for item in items]


def parity_is(value: str) -> common_pb2.ItemFilter:
    equals = common_pb2.ItemFilter.Equals(
        attribute="parity", value=common_pb2.AttributeValue(text=value)
    )
    return common_pb2.ItemFilter(equals=equals)
