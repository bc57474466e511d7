"""The candidate service: its calls beside an echo's, and its catalog while it changes.

    python -m bench.candidate --help

The servers and ghz are processes of this machine, and share its cores. What is compared takes
turns; a ratio is the median over rounds.

- `similar_vs_echo`: calls a second of `Similar` by item, over those of a bare grpc.aio server that
  is asked the same and gives one of the answers.
- `p99_ratio_while_upserting`: of two searchers, while items that bring their vector are sent at a
  fixed rate, of which `upserts_per_second` are taken, over the same searchers alone.
- `text_upserts_vs_encoder`: items of text alone, as fast as they are taken, over the texts a second
  of the same encoder by itself.

Both kinds write the same `IDS` items again and again, each time with another vector or text: a
bundle of short codes has no room for more than a few hundred items beside its own.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from google.protobuf import json_format

from bench.lib import echo
from bench.lib.ghz import RATE, Load, Run, find_ghz
from bench.lib.report import publish, run
from bench.lib.requests import Requests, newest_items, write
from bench.lib.stack import Process, serving
from bench.lib.timing import in_turns, milliseconds
from core.bundle import Bundle
from services.candidate.retrieval.encoders import OnnxTextEncoder
from tandem.v1 import candidate_service_pb2 as pb

ROUNDS: Final = 5
CALLERS: Final = 16
SENT: Final = 1_000
"""Items with a vector that are written each second."""
ITEMS_A_CALL: Final = 100
IDS: Final = 300
SEARCHERS: Final = 2
WRITERS: Final = 4
"""Calls that wait for their acknowledgment at a time."""
HISTORY: Final = 20
SERVICE: Final = "tandem.v1.CandidateService"

TABLE: Final = (
    ("candidate service", ""),
    ("`Similar` by item, 16 callers, calls/s", "{similar_calls_per_second:.0f}"),
    ("of a bare echo's", "{similar_vs_echo:.2f}"),
    ("items with a vector taken, of 1,000 sent a second", "{upserts_per_second:.0f}"),
    ("p99 of two searchers meanwhile, and alone, ms",
     "{search_p99_ms_while_upserting:.1f}, {search_p99_ms_alone:.1f}"),
    ("items of text alone taken a second", "{text_upserts_per_second:.0f}"),
    ("of the encoder's own rate", "{text_upserts_vs_encoder:.2f}"),
)  # fmt: skip

Figures = dict[str, float]


def measure_echo(candidate: Process, bundle: Bundle, seconds: float) -> Figures:
    """Compares `Similar` by item with a bare server, in turns of so many seconds."""
    items = sorted(set(newest_items(bundle).values()))
    requests: Requests = [{"query": {"items": {"item_ids": [item_id]}}} for item_id in items]
    load = Load(f"{SERVICE}.Similar", write("similar", requests), seconds, callers=CALLERS)
    request = json_format.ParseDict(requests[0], pb.SimilarRequest())
    return echo.beside_echo("similar", load, candidate.address, request, ROUNDS)


def measure_live(candidate: Process, bundle: Bundle, seconds: float) -> Figures:
    """Measures searches while items come in, and how fast those come; each turn takes `seconds`."""
    search = Load(f"{SERVICE}.Search", _searches(bundle), seconds, callers=SEARCHERS)
    upsert = "tandem.v1.CatalogService.UpsertItems"
    steady = Load(upsert, _upserts(bundle, vectors=True), seconds, rate=SENT // ITEMS_A_CALL)
    texts = Load(upsert, _upserts(bundle, vectors=False), seconds, callers=WRITERS)

    def together() -> tuple[Run, Run]:
        with ThreadPoolExecutor(2) as threads:
            found, written = threads.map(lambda load: load.run(address), (search, steady))
        return found, written

    address = candidate.address
    sides: dict[str, Callable[[], Any]] = {
        "alone": lambda: (search.run(address), None),
        "upserting": together,
        "texts": lambda: (texts.run(address), None),
    }
    turns = in_turns(sides, ROUNDS)
    encoder = _texts_per_second(_encoder(bundle), bundle)
    written = ITEMS_A_CALL * turns.median("texts", lambda turn: RATE(turn[0]))
    return {
        "search_p99_ms_alone": turns.median("alone", _p99),
        "search_p99_ms_while_upserting": turns.median("upserting", _p99),
        "p99_ratio_while_upserting": turns.ratio("upserting", "alone", _p99),
        "upserts_per_second": ITEMS_A_CALL * turns.median("upserting", lambda t: RATE(t[1])),
        "text_upserts_per_second": written,
        "encoder_texts_per_second": encoder,
        "text_upserts_vs_encoder": written / encoder,
    }


def _p99(turn: tuple[Run, Run | None]) -> float:
    return turn[0].percentile(99)


def _searches(bundle: Bundle) -> Path:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(bundle.catalog), (256, HISTORY))
    return write(
        "search", [{"history_item_ids": list(bundle.catalog.ids(row))} for row in drawn.tolist()]
    )


def _upserts(bundle: Bundle, *, vectors: bool) -> Path:
    """Calls that each write items under a title, and with a text or vector, of their own."""
    rng = np.random.default_rng(0)
    texts = [item.text for item in bundle.catalog.items[: 3 * IDS]]
    dimension = bundle.array("content_vectors", np.float32).shape[1]

    def item(number: int) -> dict[str, Any]:
        new = {
            "item_id": f"new-{number % IDS}",
            "title": f"{'vector' if vectors else 'text'} {number}",
            "text": texts[number % len(texts)],
        }
        vector = {"vector": {"values": np.round(rng.standard_normal(dimension), 4).tolist()}}
        return new | vector if vectors else new

    items = [item(number) for number in range(3 * IDS)]
    calls = [items[i : i + ITEMS_A_CALL] for i in range(0, len(items), ITEMS_A_CALL)]
    return write(f"upserts-{vectors}", [{"items": call} for call in calls])


def _encoder(bundle: Bundle) -> OnnxTextEncoder:
    """The encoder by itself, as the server runs it."""
    return OnnxTextEncoder(
        bundle.file("text_encoder.onnx"),
        bundle.file("text_tokenizer.json"),
        prefix=bundle.manifest.candidate.text_prefix,
        threads=1,
    )


def _texts_per_second(encoder: OnnxTextEncoder, bundle: Bundle) -> float:
    texts = [item.text for item in bundle.catalog.items[:ITEMS_A_CALL]]
    return 1e3 * len(texts) / milliseconds(lambda: encoder.encode_batch(texts), rounds=5)


def main(
    bundle: Annotated[Path, typer.Option(help="Whose candidates are served.")] = Path(
        "bundles/ml-100k/current"
    ),
    seconds: Annotated[float, typer.Option(help="Of each turn.")] = 2.0,
) -> None:
    """Measure the candidate service."""
    find_ghz()
    opened = Bundle.open(bundle, verify=False)
    text = f"text encoder in {opened.manifest.candidate.text_precision}"
    with tempfile.TemporaryDirectory() as directory:
        store = f"{directory}/items.db"
        with serving("candidate", bundle, "--log-level", "warning", "--store", store) as candidate:
            figures = measure_echo(candidate, opened, seconds)
            figures |= measure_live(candidate, opened, seconds)
    publish(
        "candidate", figures, TABLE, precision=text, caches="warm", bundle=opened.version,
        load_generator="ghz, on this machine",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
