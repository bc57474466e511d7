"""The gateway under load, on a bundle of one's own: what a call costs, and what overload does.

    python -m bench.gateway --bundle bundles/ml-100k/current

The three services, as `tandem serve all` starts them, bare servers to compare with and ghz are
processes of this machine and share its cores. What is compared takes turns; a ratio is the median
over rounds, and a percentile that of all rounds together. Degraded answers count as failed calls.
Goodput counts answers that are complete and come within two seconds.

- `recommend_vs_echo`: calls a second of embedding-only `Recommend`, over those of a bare grpc.aio
  server that is asked the same and gives one of the answers.
- `proxy_vs_echo`: the same of a bare proxy in front of such a server: two hops, and nothing done.
- `overhead_p50_ms`, `overhead_p99_ms`: what one caller waits for beyond the calls that the gateway
  makes for it. It includes the way from the caller to the gateway and back.
- `item_fields_…_p50_ratio`: the latency of one caller with titles and attributes over that without,
  of a strategy.
- `goodput_ratio_2x`, `goodput_ratio_5x`: goodput at two and at five times the load that the stack
  sustains, over the best of the round at any load.
- `reject_p99_ms_…`, `accepted_p99_ratio_5x`: how long a refusal takes at that many times that load;
  and how long an answer does at five, compared with calls that come at the rate that is sustained.
- `batch_vs_unary`: a stream of `BatchRecommend` over the best number of unary callers.
- `one_connection_refused`: of the calls of 80 callers on one connection, how many are refused
  by gRPC, which has a limit for a connection, and not tried again by that of ghz.
- `neighbor_p99_ratio`: the latency of one caller beside a client that opens and resets
  `resets_per_second` calls, compared with the same caller alone.
"""

import itertools
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import numpy as np
import typer
from google.protobuf import json_format

from bench.lib import echo
from bench.lib.ghz import RATE, RECOMMEND, Load, Run, find_ghz, together
from bench.lib.report import publish, run, served_precision
from bench.lib.requests import load_requests, write
from bench.lib.resets import resetting
from bench.lib.timing import in_turns, timed
from core.bundle import Bundle
from offline.evaluate.served import serving
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

ROUNDS: Final = 5
CALLERS: Final = (1, 8, 32, 128)
ONE_CONNECTION_CALLERS: Final = 80
OVERLOADS: Final = (1, 2, 5)
FIELDS: Final = {"item_fields": {"paths": ["title", "attributes"]}}
TABLE: Final = (
    ("gateway", ""),
    ("sustained `rerank`, calls/s", "{sustained_calls_per_second:.0f}"),
    ("goodput at 2 and 5 times that load, of the best",
     "{goodput_ratio_2x:.2f}, {goodput_ratio_5x:.2f}"),
    ("p99 of refusals there, ms", "{reject_p99_ms_2x:.0f}, {reject_p99_ms_5x:.0f}"),
    ("p99 of answers at 5 times, times that at 1", "{accepted_p99_ratio_5x:.1f}"),
    ("beyond its own calls, one caller, p50 and p99, ms",
     "{overhead_p50_ms:.2f}, {overhead_p99_ms:.2f}"),
    ("titles and attributes, times the latency without: embedding, rerank",
     "{item_fields_embedding_p50_ratio:.3f}, {item_fields_rerank_p50_ratio:.3f}"),
    ("embedding-only, of a bare echo's calls/s", "{recommend_vs_echo:.2f}"),
    ("a bare proxy before an echo", "{proxy_vs_echo:.2f}"),
    ("a stream of requests, times the best unary load", "{batch_vs_unary:.2f}"),
    ("beside 10,000 resets a second, times a neighbor's p99", "{neighbor_p99_ratio:.1f}"),
    ("refused of 80 callers on one connection", "{one_connection_refused:.1%}"),
)  # fmt: skip

Figures = dict[str, float]


class Gateway:
    """One that serves, with the requests of its bundle's users."""

    def __init__(self, address: str, bundle: Bundle, seconds: float) -> None:
        self.address = address
        self.seconds = seconds
        """For each measurement."""
        self.requests = load_requests(bundle)

    def messages(self, strategy: str) -> list[pb.RecommendRequest]:
        """The requests of a strategy, for all users."""
        requests = self.requests[f"recommend-{strategy}"]
        return [json_format.ParseDict(request, pb.RecommendRequest()) for request in requests]

    def load(self, strategy: str, share: float = 1.0, **fields: Any) -> Load:
        """Calls of `Recommend` for a share of the time of a measurement."""
        name = f"recommend-{strategy}"
        return Load(RECOMMEND, write(name, self.requests[name]), self.seconds * share, **fields)


def measure_echo(gateway: Gateway) -> Figures:
    """Compares embedding-only `Recommend` with bare servers, in turns."""
    load, request = gateway.load("embedding", 1 / ROUNDS), gateway.messages("embedding")[0]
    return echo.beside_echo("recommend", load, gateway.address, request, ROUNDS, proxied=True)


def measure_overhead(gateway: Gateway) -> Figures:
    """What one caller waits for beyond the gateway's own calls; ghz keeps no timings of answers."""
    own: list[float] = []
    requests = itertools.cycle(gateway.messages("rerank"))
    with grpc.insecure_channel(gateway.address) as channel:
        stub = pb_grpc.RecommendationServiceStub(channel)
        end = time.perf_counter() + gateway.seconds
        while time.perf_counter() < end:
            answer, ms = timed(partial(stub.Recommend, next(requests)))
            stages = {t.stage: t.duration.ToNanoseconds() / 1e6 for t in answer.timings}
            own.append(ms - stages.get("search", 0.0) - stages.get("rerank", 0.0))
    warm = own[len(own) // 10 :]
    return {f"overhead_p{p}_ms": float(np.percentile(warm, p)) for p in (50, 99)}


def measure_item_fields(gateway: Gateway) -> Figures:
    """What titles and attributes of ten items add, to the quickest strategy and to reranking."""
    return {
        f"item_fields_{strategy}_p50_ratio": _item_fields_ratio(gateway, strategy)
        for strategy in ("embedding", "rerank")
    }


def _item_fields_ratio(gateway: Gateway, strategy: str) -> float:
    plain = gateway.load(strategy, 1 / ROUNDS, callers=1)
    described = [request | FIELDS for request in gateway.requests[f"recommend-{strategy}"]]
    full = Load(RECOMMEND, write("described", described), plain.seconds, callers=1)
    loads = {"plain": plain, "described": full}
    turns = in_turns({n: partial(load.run, gateway.address) for n, load in loads.items()}, ROUNDS)
    return turns.ratio("described", "plain", lambda found: found.percentile(50))


def measure_callers(gateway: Gateway) -> Figures:
    """Full `Recommend` from more and more callers."""
    gateway.load("rerank", 0.2).run(gateway.address)
    runs = {n: gateway.load("rerank", 0.5, callers=n).run(gateway.address) for n in CALLERS}
    best = max(runs, key=lambda n: RATE(runs[n]))
    return {
        **{f"recommend_{n}_callers_calls_per_second": RATE(found) for n, found in runs.items()},
        "sustained_callers": best,
        "sustained_calls_per_second": RATE(runs[best]),
    }


def measure_overload(gateway: Gateway, callers: int, sustained: float) -> Figures:
    """Calls at a rate that the stack can sustain, and at several times as many.

    Args:
        gateway: see there.
        callers: the closed-loop ones that get the most answers.
        sustained: calls a second that they make.
    """
    share = 2 / ROUNDS
    loads = {"best": gateway.load("rerank", share, callers=callers)}
    for times in OVERLOADS:
        loads[f"{times}x"] = gateway.load("rerank", share, rate=max(1, round(times * sustained)))
    turns = in_turns({n: partial(load.run, gateway.address) for n, load in loads.items()}, ROUNDS)
    best = [max(map(RATE, each)) for each in zip(*turns.sides.values(), strict=True)]
    whole = {name: together(side) for name, side in turns.sides.items()}
    figures = {"accepted_p99_ratio_5x": whole["5x"].percentile(99) / whole["1x"].percentile(99)}
    for name in ("2x", "5x"):
        goodput = zip(map(RATE, turns.sides[name]), best, strict=True)
        figures[f"goodput_ratio_{name}"] = statistics.median(good / most for good, most in goodput)
        figures[f"reject_p99_ms_{name}"] = whole[name].percentile(99, "ResourceExhausted")
    return figures


def measure_batch(gateway: Gateway, callers: int, sustained: float) -> Figures:
    """Compares a stream with the number of unary callers that does best."""
    load = gateway.load("rerank", 1 / ROUNDS, callers=callers)
    users = itertools.cycle(gateway.messages("rerank"))
    requests = [
        pb.BatchRecommendRequest(request=request)
        for request in itertools.islice(users, max(1, round(sustained * load.seconds)))
    ]
    with grpc.insecure_channel(gateway.address) as channel:
        stub = pb_grpc.RecommendationServiceStub(channel)

        def stream() -> float:
            answers, ms = timed(lambda: list(stub.BatchRecommend(iter(requests))))
            return 1e3 * sum(answer.HasField("response") for answer in answers) / ms

        sides = {"unary": lambda: float(RATE(load.run(gateway.address))), "batch": stream}
        turns = in_turns(sides, ROUNDS)
    return {"batch_vs_unary": turns.ratio("batch", "unary", float)}


def measure_one_connection(gateway: Gateway) -> Figures:
    """What becomes of an honest crowd that brings everything over one connection."""
    load = gateway.load("embedding", 0.5, callers=ONE_CONNECTION_CALLERS, connections=1)
    found = load.run(gateway.address)
    return {"one_connection_refused": found.failed.get("Unavailable", 0) / found.calls}


def measure_resets(gateway: Gateway) -> Figures:
    """What a caller notices of a neighbor that opens calls and resets them at once."""
    load = gateway.load("embedding", 1 / ROUNDS, callers=1)
    per_second: list[float] = []

    def beside() -> Run:
        with resetting(gateway.address) as resets:
            found = load.run(gateway.address)
        per_second.append(resets.per_second)
        return found

    turns = in_turns({"alone": lambda: load.run(gateway.address), "beside": beside}, ROUNDS)
    p99 = {name: together(side).percentile(99) for name, side in turns.sides.items()}
    return {
        "neighbor_p99_ratio": p99["beside"] / p99["alone"],
        "resets_per_second": statistics.median(per_second),
    }


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    seconds: Annotated[float, typer.Option(help="For each measurement.")] = 8.0,
) -> None:
    """Measure the gateway under load."""
    find_ghz()
    opened = Bundle.open(bundle, verify=False)
    figures: Figures = {}
    with serving(bundle) as addresses:
        gateway = Gateway(addresses["gateway"], opened, seconds)
        for measure in (measure_echo, measure_overhead, measure_item_fields, measure_callers):
            figures |= measure(gateway)
        best = int(figures["sustained_callers"]), figures["sustained_calls_per_second"]
        figures |= measure_overload(gateway, *best) | measure_batch(gateway, *best)
        figures |= measure_one_connection(gateway) | measure_resets(gateway)
    publish(
        "gateway", figures, TABLE, precision=served_precision(opened), caches="warm",
        bundle=opened.version, load_generator="ghz, on this machine",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
