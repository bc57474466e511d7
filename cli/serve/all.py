"""`tandem serve all`: the three servers as processes of this machine."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Final

import typer
from pydantic import Field

from cli.serve.options import settings_command
from cli.serve.supervise import Command, Launch, supervise
from console.settings import ConsoleSettings
from gateway.settings import GatewaySettings
from services.candidate.settings import CandidateSettings
from services.generator.settings import GeneratorSettings
from serving.settings import ProcessSettings, ServerSettings, flag_of, load_settings, variable_of

KINDS: Final[Mapping[str, type[ServerSettings]]] = {
    "candidate": CandidateSettings,
    "generator": GeneratorSettings,
    "gateway": GatewaySettings,
}
DECIDED: Final = {"candidate_target", "generator_target", "catalog", "port_file", "stop_on_eof"}
"""Settings of the three that follow from running them together."""
OWN: Final = ("port", "metrics_port")
"""Settings whose variable is the gateway's alone, since three processes cannot have one port."""
METRICS_OFFSETS: Final = {"gateway": 0, "candidate": 1, "generator": 2}
"""From the gateway's port of metrics, which is given, to each one's."""


class StackSettings(GatewaySettings, CandidateSettings, GeneratorSettings):
    """What the three can be told together: all that each can; `port` is the gateway's.

    `metrics_port` is too, and the services show theirs on the two ports above it.
    """

    candidate_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The candidate service's port; 0 picks one. By default 50051, or what the "
        "file says under [candidate].",
    )
    generator_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The generator service's port; 0 picks one. By default 50052, or what the "
        "file says under [generator].",
    )

    console_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Serve the console too, on this port; 0 picks one.",
    )

    def port_of(self, process: str) -> int | None:
        """The port that a process was given here, if any."""
        ports = {"candidate": self.candidate_port, "generator": self.generator_port}
        return ports.get(process, self.port)

    def metrics_port_of(self, process: str) -> int | None:
        """The port of metrics that a process was given here, if any; 0 is for all to pick one."""
        return self.metrics_port and self.metrics_port + METRICS_OFFSETS[process]


def _run(**given: object) -> None:
    stack = load_settings(StackSettings, **given)
    settings = {process: _load(process, stack, given) for process in KINDS}

    def launch(process: str) -> Launch:
        flags = _flags_for(KINDS[process], given) | {
            "host": stack.host,
            "port": settings[process].port,
        }
        if settings[process].metrics_port is not None:
            flags["metrics_port"] = settings[process].metrics_port
        return lambda addresses: _command(process, flags | _connections(process, addresses))

    def report(name: str, address: str) -> None:
        scheme = "" if name != "console" else "https://" if tls else "http://"
        typer.echo(f"{name} serves at {scheme}{address}")

    services = {process: launch(process) for process in ("candidate", "generator")}
    pair = (stack.tls_certificate, stack.tls_key)
    tls = (pair[0], pair[1]) if pair[0] and pair[1] else None
    after = {} if stack.console_port is None else {"console": _console(stack, given)}
    asyncio.run(
        supervise(services, launch("gateway"), host=stack.host, report=report, tls=tls, after=after)
    )


def _console(stack: StackSettings, given: Mapping[str, object]) -> Launch:
    """The console, which is told of the three; and of their metrics and bundles, if they are here.

    Raises:
        SettingsError: it would not start.
    """
    metrics = stack.metrics_port and [stack.metrics_port_of(name) for name in METRICS_OFFSETS]
    flags = _flags_for(ConsoleSettings, given) | {
        "host": stack.host,
        "port": stack.console_port,
        "bundles": stack.bundle.absolute().parent.parent,
        "metrics": ",".join(f"127.0.0.1:{port}" for port in metrics or ()),
    }
    load_settings(ConsoleSettings, {}, **flags)
    return lambda addresses: _command("console", flags | dict(addresses))


def _load(process: str, stack: StackSettings, given: Mapping[str, object]) -> ServerSettings:
    """Reads what a process will read, so that mistakes are told before anything starts."""
    alone = {variable_of(name) for name in OWN}
    environment = {name: value for name, value in os.environ.items() if name not in alone}
    ports = {"port": stack.port_of(process), "metrics_port": stack.metrics_port_of(process)}
    flags = _flags_for(KINDS[process], given) | ports
    return load_settings(KINDS[process], environment, **flags)


def _flags_for(kind: type[ProcessSettings], given: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value
        for name, value in given.items()
        if value is not None and name in kind.model_fields
    }


def _connections(process: str, addresses: Mapping[str, str]) -> dict[str, object]:
    """Where a process finds those that were started before it."""
    match process:
        case "generator":
            return {"catalog": addresses["candidate"]}
        case "gateway":
            return {f"{name}_target": address for name, address in addresses.items()}
        case _:
            return {}


def _command(process: str, flags: Mapping[str, object]) -> Command:
    """The command line of a server, in this Python."""
    own = ["console"] if process == "console" else ["serve", process]
    command = [sys.executable, "-m", "cli.main", *own]
    for name, value in flags.items():
        if isinstance(value, bool):
            command.append(flag_of(name) if value else f"--no-{flag_of(name)[2:]}")
        else:
            command.append(f"{flag_of(name)}={value}")
    return command


app = settings_command(
    StackSettings,
    _run,
    summary="Serve all three as processes of this machine; one that ends ends all. The generator "
    "follows the candidate's catalog, which changes where there is a --store.",
    without=DECIDED,
    epilog="Example:  tandem serve all --bundle bundles/ml-100k/current",
)
