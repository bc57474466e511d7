"""Writing answers as messages."""

from dataclasses import dataclass, field
from typing import Any

from core.catalog import Catalog
from services.generator.batching import Served
from services.generator.decoding import diagnostics
from services.generator.decoding.engine import Ranked
from serving.item_fields import Fields, ItemFieldWriter
from serving.timings import stage_timing
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb


@dataclass(frozen=True)
class Reply:
    """What the three responses have in common, and all lists."""

    missing: list[str]
    sequence: int
    generated: list[pb.GeneratedRow] = field(default_factory=list)
    """One list, or the rows."""
    reranked: list[common_pb2.ScoredItem] = field(default_factory=list)
    timings: list[common_pb2.StageTiming] = field(default_factory=list)
    batch_size: int = 0


class ListWriter:
    """Writes generated lists; remembers what it wrote of items."""

    def __init__(self) -> None:
        self._fields = ItemFieldWriter()

    def generated(self, ranked: Ranked, catalog: Catalog, fields: Fields) -> pb.GeneratedRow:
        """A list without a name, with what the request wants to know of its items."""
        messages = scored(ranked, catalog)
        self._fields.write(messages, [catalog.items[item] for item in ranked.items], fields)
        return pb.GeneratedRow(items=messages, proof=_proof(ranked))


def _proof(ranked: Ranked) -> pb.ListProof | None:
    if ranked.missed is None:
        return None
    gap = 0.0 if ranked.exact else ranked.missed - float(ranked.scores[-1])
    return pb.ListProof(exact=ranked.exact, exact_places=ranked.proved, gap=gap)


def write_code(item_id: str, code: diagnostics.Code) -> pb.ItemCode:
    """An item's code, token by token."""
    return pb.ItemCode(
        item_id=item_id,
        text=code.text,
        tokens=[
            pb.CodeToken(text=token.text, log_probability=token.log_probability)
            for token in code.tokens
        ],
    )


def scored(ranked: Ranked | None, catalog: Catalog) -> list[common_pb2.ScoredItem]:
    """Items and their scores; none where there is no list."""
    if ranked is None:
        return []
    pairs = zip(catalog.ids(ranked.items), ranked.scores.tolist(), strict=True)
    return [common_pb2.ScoredItem(item_id=item_id, score=score) for item_id, score in pairs]


def timings(served: Served[Any]) -> list[common_pb2.StageTiming]:
    """How long each step took."""
    return [
        stage_timing("prepare", served.prepared),
        stage_timing("queue", served.queued),
        stage_timing("model", served.ran),
    ]
