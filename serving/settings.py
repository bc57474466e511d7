"""Settings of a server: declared once, given as flag, variable or line of a file, checked at start.

A field of a settings class is the whole declaration. Its flag of `tandem serve`, its environment
variable, its key in a configuration file, its line of help and its row in docs/configuration.md
are made from it.
"""

import os
import re
import tomllib
from collections import ChainMap
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
)

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from core.errors import SettingsError

ENVIRONMENT_PREFIX: Final = "TANDEM_"
TABLES: Final = ("candidate", "generator", "gateway", "console")
"""Of a configuration file: what is one process's own. What stands before them is for all."""

S = TypeVar("S", bound="ProcessSettings")


def _is_bundle(path: Path) -> Path:
    if not (path / "manifest.json").is_file():
        raise ValueError(f"{path} is not a bundle; make one with `tandem build`")
    return path


BundlePath = Annotated[Path, AfterValidator(_is_bundle)]
"""The directory of a bundle's version."""


class ProcessSettings(BaseModel):
    """What each process of Tandem can be told that listens on a port."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: ClassVar[str] = ""
    """The one of `TABLES` that is this process's own."""

    config: Path | None = Field(default=None, description="TOML file to read settings from.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=0, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    port_file: Path | None = Field(
        default=None, description="File to write the port to once it is bound, for a supervisor."
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, description="How long SIGTERM waits for calls in flight."
    )
    stop_on_eof: bool = Field(
        default=False,
        description="Stop when standard input ends: it does when a supervisor is killed.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file of the certificate to show, and those between it and its authority; "
        "with it, connections need TLS. It is read again when it changes, as its key is.",
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file of the private key of that certificate."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )
    log_json: bool | None = Field(
        default=None,
        description="Log JSON lines rather than text; by default, text only on a terminal.",
    )


class ServerSettings(ProcessSettings):
    """What each of the three servers can be told."""

    bundle: BundlePath = Field(
        description="Directory of the bundle version to serve, such as bundles/ml-100k/current."
    )
    bundle_key: Path | None = Field(
        default=None,
        description="PEM file of the Ed25519 public key that bundles must be signed with.",
    )
    threads: int = Field(default=0, ge=0, description="Compute threads; 0 means one per core.")
    max_concurrent_rpcs: int = Field(
        default=256, gt=0, description="Calls in flight above which new ones are shed."
    )
    max_connection_calls: int = Field(
        default=256, gt=0, description="Calls on one connection above which gRPC refuses others."
    )
    max_message_bytes: int = Field(
        default=8 * 2**20, ge=2**10, description="Largest message that is accepted."
    )
    tls_client_authority: Path | None = Field(
        default=None,
        description="PEM file of authorities; with it, callers need a certificate that one of "
        "them signed (mTLS). It is read again when it changes.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="TOML file that says who may call and what each may do; read again when it "
        "changes. Without it everybody may call, off the loopback what needs no protection.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port to show metrics on, for Prometheus; 0 picks one, and without it there "
        "is none.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address to show metrics on.")
    otlp_endpoint: str | None = Field(
        default=None,
        description="Collector that traces are sent to, by OTLP over gRPC: http://HOST:PORT, or "
        "https://… for TLS; without it none are.",
    )
    trace_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of the calls that begin a trace which is sent; a call that comes with a "
        "`traceparent` does as that says.",
    )
    channelz: bool = Field(
        default=False,
        description="Answer `grpc.channelz.v1` too: what is connected to the process, and to what.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.fullmatch(r"https?://[^/\s]+:\d+/?", endpoint):
            raise ValueError("give http://HOST:PORT or https://HOST:PORT, such as of port 4317")
        return endpoint

    @property
    def compute_threads(self) -> int:
        """`threads`, with 0 replaced by the cores that this process may use."""
        return self.threads or len(os.sched_getaffinity(0))


class LinkSettings(BaseModel):
    """How a process calls services of Tandem."""

    service_authority: Path | None = Field(
        default=None,
        description="PEM file of the authorities that sign the certificates of the services that "
        "this process calls; with it, they are called by TLS. It is read again when it changes, as "
        "the next two are.",
    )
    service_certificate: Path | None = Field(
        default=None, description="PEM file of a certificate to show to them, for mTLS."
    )
    service_certificate_key: Path | None = Field(
        default=None, description="PEM file of the private key of that certificate."
    )


class CallingSettings(LinkSettings, ServerSettings):
    """What a server can be told that calls other services of Tandem."""

    service_key_file: Path | None = Field(
        default=None,
        description="File of the key to show to the services that this one calls; read again when "
        "it changes.",
    )


class _Given(NamedTuple):
    """A value, and what to call the place that it comes from."""

    value: Any
    source: str


def flag_of(name: str) -> str:
    """The flag of a setting: `--max-batch` of `max_batch`."""
    return f"--{name.replace('_', '-')}"


def variable_of(name: str) -> str:
    """The environment variable of a setting: `TANDEM_MAX_BATCH` of `max_batch`."""
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"


def flags_of(kind: type[ProcessSettings]) -> dict[str, FieldInfo]:
    """The settings that have a flag and a variable: all but those that are tables of a file."""
    return {name: field for name, field in kind.model_fields.items() if _tables_in(field) is None}


def _tables_in(field: FieldInfo) -> type[BaseModel] | None:
    """What each table holds of a setting that is tables by their names; None for any other."""
    kinds = get_args(field.annotation)[1:] if get_origin(field.annotation) is dict else ()
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def default_of(field: FieldInfo) -> str:
    """The default of a setting as one would write it; empty where there is none."""
    if field.is_required() or field.default is None:
        return ""
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def load_settings(
    kind: type[S], environment: Mapping[str, str] = os.environ, /, **flags: object
) -> S:
    """Makes settings: a flag wins over its variable, that over the file, and that over the default.

    Args:
        kind: of settings.
        environment: where variables are looked up; an empty one is as good as none, because an
            image's variable cannot be taken away from a container, only emptied.
        flags: values by the names of settings; None is a flag that was not given.

    Raises:
        SettingsError: a value is missing or impossible, or the file has keys that are no settings;
            the message says where the value came from.
    """
    given = ChainMap(
        {n: _Given(value, flag_of(n)) for n, value in flags.items() if value is not None},
        {
            name: _Given(value, variable)
            for name in flags_of(kind)
            if (value := environment.get(variable := variable_of(name)))
        },
    )
    if "config" in given:
        given.maps.append(_read_file(Path(given["config"].value), kind))
    try:
        return kind.model_validate({name: value for name, (value, _) in given.items()})
    except ValidationError as error:
        problems = (_explain(problem, given) for problem in error.errors())
        raise SettingsError("; ".join(problems)) from error


def _explain(problem: ErrorDetails, given: Mapping[str, _Given]) -> str:
    name, *inside = map(str, problem["loc"])
    if problem["type"] == "missing" and not inside:
        return f"{flag_of(name)} (or {variable_of(name)}) is required"
    what = problem["msg"].removeprefix("Value error, ")
    told = ": ".join((given[name].source, *inside, what[0].lower() + what[1:]))
    return told if isinstance(problem["input"], dict) else f"{told}, got {problem['input']!r}"


def _read_file(path: Path, kind: type[ProcessSettings]) -> dict[str, _Given]:
    """What a file tells a process: what it tells all of them, and then what it tells this one."""
    document = _parse(path)
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    own = {f"{kind.table}.{key}": value for key, value in tables.get(kind.table, {}).items()}
    given = {key: value for key, value in document.items() if key not in tables} | own
    # One file is for all, so that it may say to all what this process has no use for.
    fields = {name: name for name in ServerSettings.model_fields if name != "config"}
    fields |= {f"{kind.table}.{name}": name for name in kind.model_fields if name != "config"}
    _refuse_unknown(path, "table", tables, TABLES)
    _refuse_unknown(path, "key", given, fields)
    told = {key: value for key, value in given.items() if fields[key] in kind.model_fields}
    for key, value in told.items():
        _refuse_unknown_inside(path, key, value, kind.model_fields[fields[key]])
    return {fields[key]: _Given(value, f"{key} in {path}") for key, value in told.items()}


def _refuse_unknown(path: Path, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            nearest = max(known, key=partial(_likeness, name))
            raise SettingsError(f"{path}: unknown {what} {name!r}; the nearest is {nearest!r}")


def _refuse_unknown_inside(path: Path, key: str, value: Any, field: FieldInfo) -> None:
    """Of a setting that is tables; what is none is refused as any other wrong value."""
    own = _tables_in(field)
    if own is None or not isinstance(value, dict):
        return
    for name, table in value.items():
        given = table if isinstance(table, dict) else ()
        _refuse_unknown(path, f"key of {key}.{name}", given, own.model_fields)


def _likeness(name: str, other: str) -> tuple[float, bool]:
    """How alike two keys are, whatever their tables; of the same key, that in the same table."""
    (table, _, key), (other_table, _, other_key) = name.rpartition("."), other.rpartition(".")
    return SequenceMatcher(None, key, other_key).ratio(), table == other_table


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings in {path}: {error.strerror}") from error
    except ValueError as error:  # TOML's own, and bytes that are not UTF-8
        raise SettingsError(f"{path} is not a TOML file: {error}") from error
