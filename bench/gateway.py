"""The gateway under load, on a bundle of one's own: what a call costs, and what overload does.

    python -m bench.gateway --bundle bundles/ml-100k/current

The three services, bare servers to compare with and ghz are processes of this machine and share its
cores. What is compared takes turns; a ratio is the median over rounds, and a percentile that of all
rounds together. Goodput counts answers that are complete and come within two seconds.

- `recommend_vs_echo`: calls a second of embedding-only `Recommend`, over those of a bare grpc.aio
  server that is asked the same and gives one of the answers.
- `proxy_vs_echo`: the same of a bare proxy in front of such a server: two hops, and nothing done.
- `overhead_p50_ms`, `overhead_p99_ms`: what one caller waits for beyond the calls that the gateway
  makes for it. It includes the way from the caller to the gateway and back.
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
from bench.lib.ghz import RECOMMEND, Load, Run, find_ghz, together
from bench.lib.report import publish, run
from bench.lib.requests import load_requests, write
from bench.lib.resets import METHOD, resetting
from bench.lib.stack import serve_all
from bench.lib.timing import in_turns, median_ratio, timed
from core.bundle import Bundle
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

ROUNDS: Final = 5
CALLERS: Final = (1, 8, 32, 128)
ONE_CONNECTION_CALLERS: Final = 80
OVERLOADS: Final = (1, 2, 5)

Figures = dict[str, float]


class Gateway:
    """One that serves, with the requests of its bundle's users."""

    def __init__(self, address: str, bundle: Bundle, seconds: float) -> None:
        self.address = address
        self.seconds = seconds
        """For each measurement."""
        self.requests = {
            name: [request | {"forbid_degraded": True} for request in requests]
            for name, requests in load_requests(bundle).items()
            if name in ("recommend-rerank", "recommend-embedding")
        }
        self._files = {n: write(f"strict-{n}", data) for n, data in self.requests.items()}

    def messages(self, strategy: str) -> list[pb.RecommendRequest]:
        """The requests of a strategy, for all users."""
        requests = self.requests[f"recommend-{strategy}"]
        return [json_format.ParseDict(request, pb.RecommendRequest()) for request in requests]

    def load(self, strategy: str, share: float = 1.0, **fields: Any) -> Load:
        """Calls of `Recommend` for a share of the time of a measurement."""
        file = self._files[f"recommend-{strategy}"]
        return Load(RECOMMEND, file, self.seconds * share, **fields)


def measure_echo(gateway: Gateway) -> Figures:
    """Compares embedding-only `Recommend` with bare servers."""
    load = gateway.load("embedding", 1 / ROUNDS)
    with grpc.insecure_channel(gateway.address) as channel:
        recommend: Any = channel.unary_unary(METHOD)
        answer = recommend(gateway.messages("embedding")[0].SerializeToString())
    with echo.serving(answer) as bare, echo.serving(echo=bare) as proxy:
        sides = {"echo": bare, "proxy": proxy, "embedding": gateway.address}
        runs = in_turns({name: partial(load.run, at) for name, at in sides.items()}, ROUNDS)
    rates = {name: [run.answers_per_second for run in side] for name, side in runs.items()}
    return {
        "recommend_vs_echo": median_ratio(rates["embedding"], rates["echo"]),
        "proxy_vs_echo": median_ratio(rates["proxy"], rates["echo"]),
        **{f"{name}_calls_per_second": statistics.median(side) for name, side in rates.items()},
    }


def measure_overhead(gateway: Gateway) -> Figures:
    """What one caller waits for beyond the gateway's own calls."""
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


def measure_callers(gateway: Gateway) -> Figures:
    """Full `Recommend` from more and more callers."""
    gateway.load("rerank", 0.2).run(gateway.address)
    runs = {n: gateway.load("rerank", callers=n).run(gateway.address) for n in CALLERS}
    figures: Figures = {}
    for callers, found in runs.items():
        name = f"recommend_{callers}_callers"
        figures[f"{name}_calls_per_second"] = found.answers_per_second
        figures |= {f"{name}_p{p}_ms": found.percentile(p) for p in (50, 99)}
    best = max(runs, key=lambda n: runs[n].answers_per_second)
    sustained = runs[best].answers_per_second
    return {**figures, "sustained_callers": best, "sustained_calls_per_second": sustained}


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
    runs = in_turns(
        {name: partial(load.run, gateway.address) for name, load in loads.items()}, ROUNDS
    )
    rates = {name: [run.answers_per_second for run in side] for name, side in runs.items()}
    best = [max(round_) for round_ in zip(*rates.values(), strict=True)]
    whole = {name: together(side) for name, side in runs.items()}
    return {
        **{f"goodput_ratio_{n}x": median_ratio(rates[f"{n}x"], best) for n in (2, 5)},
        **{
            f"reject_p99_ms_{n}x": whole[f"{n}x"].percentile(99, "ResourceExhausted")
            for n in (2, 5)
        },
        "accepted_p99_ratio_5x": whole["5x"].percentile(99) / whole["1x"].percentile(99),
    }


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

        sides = {"unary": lambda: load.run(gateway.address).answers_per_second, "batch": stream}
        rates = in_turns(sides, ROUNDS)
    return {
        "batch_vs_unary": median_ratio(rates["batch"], rates["unary"]),
        "batch_per_second": statistics.median(rates["batch"]),
    }


def measure_one_connection(gateway: Gateway) -> Figures:
    """What becomes of an honest crowd that brings everything over one connection."""
    load = gateway.load("embedding", callers=ONE_CONNECTION_CALLERS, connections=1)
    found = load.run(gateway.address)
    return {"one_connection_refused": found.failed.get("Unavailable", 0) / found.calls}


def measure_resets(gateway: Gateway) -> Figures:
    """What a caller notices of a neighbor that opens calls and resets them at once."""
    load = gateway.load("embedding", 2 / ROUNDS, callers=1)
    per_second: list[float] = []

    def beside() -> Run:
        with resetting(gateway.address) as resets:
            found = load.run(gateway.address)
        per_second.append(resets.per_second)
        return found

    runs = in_turns({"alone": lambda: load.run(gateway.address), "beside": beside}, ROUNDS)
    p99 = {name: together(side).percentile(99) for name, side in runs.items()}
    return {
        "neighbor_p99_ratio": p99["beside"] / p99["alone"],
        "resets_per_second": statistics.median(per_second),
    }


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    seconds: Annotated[float, typer.Option(help="For each measurement.")] = 10.0,
) -> None:
    """Measure the gateway under load."""
    find_ghz()
    opened = Bundle.open(bundle, verify=False)
    with serve_all(bundle) as address:
        gateway = Gateway(address, opened, seconds)
        figures = measure_echo(gateway) | measure_overhead(gateway) | measure_callers(gateway)
        best = int(figures["sustained_callers"]), figures["sustained_calls_per_second"]
        figures |= measure_overload(gateway, *best) | measure_batch(gateway, *best)
        figures |= measure_one_connection(gateway) | measure_resets(gateway)
    publish("gateway", figures, bundle=opened.version, load_generator="ghz, on this machine")


if __name__ == "__main__":
    run(main)
