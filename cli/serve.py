"""`tandem serve`: each of the three servers, or all of them.

What a flag leaves unset comes from its environment variable, `TANDEM_<FLAG>`, then from the
service's default; `serving.settings` decides, so that containers need no flags at all.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Serve a bundle. Every flag is also an environment variable: --port is TANDEM_PORT.",
)

BundlePath = Annotated[
    Path | None, typer.Option(help="The bundle to serve, such as bundles/ml-100k/current.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks one.")]
PortFile = Annotated[Path | None, typer.Option(help="File to write the port to once it is bound.")]
Threads = Annotated[int | None, typer.Option(help="Compute threads; 0 means one per core.")]
MaxConcurrent = Annotated[
    int | None,
    typer.Option("--max-concurrent-rpcs", help="Calls in flight above which new ones are shed."),
]
DrainSeconds = Annotated[
    float | None, typer.Option(help="How long SIGTERM waits for calls in flight.")
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option(help="Least severe log line that is written."),
]
LogJson = Annotated[
    bool | None, typer.Option("--log-json/--log-text", help="JSON lines, or text for people.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option(help="Where the model runs; auto takes a GPU when there is one."),
]
Precision = Annotated[
    Literal["auto", "fp32", "int8", "fp16"] | None,
    typer.Option(help="Of the model; auto takes the fastest in the bundle that suits the device."),
]
Spin = Annotated[
    bool | None,
    typer.Option(
        "--spin/--no-spin", help="Waiting compute threads spin, or sleep. [default: sleep]"
    ),
]
Store = Annotated[
    Path | None,
    typer.Option(help="File to keep changes of the catalog in; without one it is read-only."),
]
RebaseStore = Annotated[
    bool | None,
    typer.Option(
        "--rebase-store", help="Carry a store over that belongs to another version of the bundle."
    ),
]
MaxBatch = Annotated[
    int | None, typer.Option(help="Calls that share one run of the model, at most. [default: 8]")
]
MaxQueue = Annotated[
    int | None,
    typer.Option(help="Calls waiting for the model above which new ones are shed. [default: 128]"),
]
MaxQueueMs = Annotated[
    float | None,
    typer.Option(help="Milliseconds after which a waiting call is shed. [default: 1000]"),
]
History = Annotated[
    str | None,
    typer.Option(
        help="Where histories are kept: FILE.sqlite, redis://HOST:PORT, or bundle for those of "
        "the bundle alone. [default: build/history/NAME.sqlite]",
    ),
]
HistoryMaxEvents = Annotated[
    int | None, typer.Option(help="Events kept of each user: the newest. [default: 1000]")
]
HistoryDays = Annotated[
    float | None, typer.Option(help="Days that an event is kept; 0 means for ever. [default: 0]")
]


@app.command()
def candidate(
    bundle: BundlePath = None,
    host: Host = None,
    port: Port = None,
    port_file: PortFile = None,
    threads: Threads = None,
    store: Store = None,
    rebase_store: RebaseStore = None,
    index_uri: Annotated[
        str | None,
        typer.Option(help="A Milvus to search in instead of the bundle's own indexes."),
    ] = None,
    max_concurrent_rpcs: MaxConcurrent = None,
    drain_seconds: DrainSeconds = None,
    log_level: LogLevel = None,
    log_json: LogJson = None,
) -> None:
    """Serve the candidate service, on port 50051: shortlists, similarity, and the catalog."""
    flags = locals()
    from services.candidate.main import main
    from services.candidate.settings import CandidateSettings
    from serving.settings import load_settings

    main(load_settings(CandidateSettings, **flags))


@app.command()
def generator(
    bundle: BundlePath = None,
    host: Host = None,
    port: Port = None,
    port_file: PortFile = None,
    threads: Threads = None,
    catalog: Annotated[
        str | None,
        typer.Option(help="The candidate's address, to follow changes of its catalog."),
    ] = None,
    device: Device = None,
    precision: Precision = None,
    spin: Spin = None,
    max_batch: MaxBatch = None,
    max_queue: MaxQueue = None,
    max_queue_ms: MaxQueueMs = None,
    max_concurrent_rpcs: MaxConcurrent = None,
    drain_seconds: DrainSeconds = None,
    log_level: LogLevel = None,
    log_json: LogJson = None,
) -> None:
    """Serve the generator service, on port 50052: reranks and generates."""
    flags = locals()
    from services.generator.main import main
    from services.generator.settings import GeneratorSettings
    from serving.settings import load_settings

    main(load_settings(GeneratorSettings, **flags))


@app.command()
def gateway(
    bundle: BundlePath = None,
    candidate_target: Annotated[
        str | None, typer.Option(help="The candidate's address. [default: 127.0.0.1:50051]")
    ] = None,
    generator_target: Annotated[
        str | None, typer.Option(help="The generator's address. [default: 127.0.0.1:50052]")
    ] = None,
    strategy: Annotated[
        Literal["rerank", "generate", "fuse", "embedding"] | None,
        typer.Option(help="How to recommend when the caller does not say. [default: the bundle's]"),
    ] = None,
    history: History = None,
    history_max_events: HistoryMaxEvents = None,
    history_days: HistoryDays = None,
    default_timeout: Annotated[
        float | None, typer.Option(help="Seconds for callers without a deadline. [default: 2]")
    ] = None,
    host: Host = None,
    port: Port = None,
    port_file: PortFile = None,
    max_concurrent_rpcs: MaxConcurrent = None,
    drain_seconds: DrainSeconds = None,
    log_level: LogLevel = None,
    log_json: LogJson = None,
) -> None:
    """Serve the gateway, on port 50050: Recommend and SimilarItems."""
    flags = locals()
    from gateway.main import main
    from gateway.settings import GatewaySettings
    from serving.settings import load_settings

    main(load_settings(GatewaySettings, **flags))


@app.command("all", epilog="Example:  tandem serve all --bundle bundles/ml-100k/current")
def serve_all(
    bundle: BundlePath = None,
    host: Host = None,
    port: Annotated[int, typer.Option(help="The gateway's port; 0 picks one.")] = 50050,
    candidate_port: Annotated[int, typer.Option(help="The candidate's port.")] = 50051,
    generator_port: Annotated[int, typer.Option(help="The generator's port.")] = 50052,
    store: Store = None,
    rebase_store: RebaseStore = None,
    threads: Threads = None,
    device: Device = None,
    history: History = None,
    log_level: LogLevel = None,
    log_json: LogJson = None,
) -> None:
    """Serve all three as processes of this machine; one that ends ends all.

    The generator follows the candidate's catalog, which changes where there is a --store.
    """
    from cli.supervise import supervise
    from serving.settings import ServerSettings, load_settings

    common = {
        "bundle": bundle,
        "host": host,
        "threads": threads,
        "log_level": log_level,
        "log_json": log_json,
    }
    settings = load_settings(ServerSettings, **common, port=port)

    def report(name: str, address: str) -> None:
        typer.echo(f"{name} serves at {address}")

    def candidate(_addresses: Mapping[str, str]) -> list[str]:
        flags = {"store": store, "rebase_store": rebase_store}
        return _command("candidate", common, port=candidate_port, **flags)

    def generator(addresses: Mapping[str, str]) -> list[str]:
        catalog = addresses["candidate"]
        return _command("generator", common, port=generator_port, device=device, catalog=catalog)

    def gateway(addresses: Mapping[str, str]) -> list[str]:
        targets = {f"{name}_target": address for name, address in addresses.items()}
        without_threads = {name: value for name, value in common.items() if name != "threads"}
        return _command("gateway", without_threads, port=port, history=history, **targets)

    services = {"candidate": candidate, "generator": generator}
    asyncio.run(supervise(services, gateway, host=settings.host, report=report))


def _command(name: str, common: Mapping[str, object], **flags: object) -> list[str]:
    """The command line of a server, in this Python."""
    command = [sys.executable, "-m", "cli.main", "serve", name]
    for flag, value in {**common, **flags}.items():
        if flag == "log_json" and value is not None:
            command.append("--log-json" if value else "--log-text")
        elif flag == "rebase_store":
            command += ["--rebase-store"] if value else []
        elif value is not None:
            command += [f"--{flag.replace('_', '-')}", str(value)]
    return command
