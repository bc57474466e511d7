"""What tests of the generator's RPCs share."""

from collections.abc import Iterable

from core.bundle import Bundle
from services.generator.batching import Limits
from services.generator.catalog.follower import Follower
from services.generator.decoding.engine import GeneratorEngine
from services.generator.servicer import GeneratorServicer
from tandem.v1 import common_pb2


def make_servicer(
    bundle: Bundle, engine: GeneratorEngine, limits: Limits | None = None
) -> GeneratorServicer:
    users = bundle.histories.user_index
    return GeneratorServicer(
        Follower(engine), users, bundle.version, limits, histories=bundle.histories
    )


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
