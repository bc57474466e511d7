"""The file that names configurations of calls, and divides users among variants.

experiment = "spring"              # another name assigns users anew

[configs.home]                     # a RecommendRequest in protobuf's JSON form, without a user
strategy = "STRATEGY_FUSE"
diversity = 0.3

[variants.control]
percent = 90

[variants.next]
percent = 10
bundle_version = "shop/0a1b2c3d4e5f"  # and, or instead: bundle, strategy, serving_config

[variants.next.canary]             # withdraws the variant where it does worse than the others
max_bad_share = 0.02

[shadow]                           # has a variant answer calls once more, to be compared
variant = "next"
share = 0.05
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.domain import Strategy
from gateway.variants.plan import MAX_VARIANTS, Limits, Plan, ShadowPlan, Variant
from gateway.variants.requests import attributes_in, layered, read_config
from serving.files.tables import read_tables
from serving.files.watched import Watched
from tandem.v1 import recommendation_service_pb2 as pb

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CanaryTable(_Table):
    """When a variant is withdrawn."""

    max_bad_share: float = Field(default=0.02, ge=0.001, le=1)
    max_latency_ratio: float = Field(default=1.5, ge=1, le=100)
    min_calls: int = Field(default=100, ge=10, le=1_000_000)
    window_seconds: float = Field(default=60.0, ge=1, le=3_600)


class VariantTable(_Table):
    """A variant."""

    percent: float = Field(ge=0, le=100)
    bundle: Name | None = None
    bundle_version: str = Field(default="", max_length=255)
    strategy: Strategy | None = None
    serving_config: str = ""
    canary: CanaryTable | None = None


class ShadowTable(_Table):
    """Which calls a variant answers once more, to be compared."""

    variant: Name
    share: float = Field(ge=0, le=1)
    max_in_flight: int = Field(default=4, ge=1, le=100)


class ServingFile(_Table):
    """The file."""

    experiment: str = Field(default="", max_length=64)
    configs: Mapping[Name, dict[str, Any]] = Field(default={}, max_length=1_000)
    variants: Mapping[Name, VariantTable] = Field(default={}, max_length=MAX_VARIANTS)
    shadow: ShadowTable | None = None


def read_plan(content: bytes) -> Plan:
    """Reads a file.

    Raises:
        ValueError: it is not TOML, or says something impossible.
    """
    file = read_tables(content, ServingFile)
    configs = {}
    for name, values in file.configs.items():
        try:
            configs[name] = read_config(values)
        except ValueError as error:
            raise ValueError(f"configs.{name}: {error}") from error
    _check_variants(file)
    variants = {name: _variant(name, table, configs) for name, table in file.variants.items()}
    shadow = ShadowPlan(**file.shadow.model_dump()) if file.shadow else None
    return Plan(file.experiment, configs, variants, shadow)


def watch_plan(path: Path) -> Watched[Plan]:
    """The plan in a file, kept current.

    Raises:
        SettingsError: it cannot be read, or says something impossible.
    """
    return Watched([path], read_plan)


def _check_variants(file: ServingFile) -> None:
    """Checks what the tables say together.

    Raises:
        ValueError: they do not go together.
    """
    if file.shadow is not None and file.shadow.variant not in file.variants:
        raise ValueError(f"shadow.variant: there is no variants.{file.shadow.variant}")
    if not file.variants:
        return
    percent = math.fsum(table.percent for table in file.variants.values())
    if not math.isclose(percent, 100, abs_tol=1e-6):
        raise ValueError(f"variants: the percents add up to {percent:g}, not to 100")
    if all(table.canary for table in file.variants.values()):
        raise ValueError("variants: all are canaries; leave one to compare with, and to go back to")


def _variant(name: str, table: VariantTable, configs: Mapping[str, pb.RecommendRequest]) -> Variant:
    if table.serving_config and table.serving_config not in configs:
        raise ValueError(
            f"variants.{name}.serving_config: there is no configs.{table.serving_config}"
        )
    own = pb.RecommendRequest()
    if table.strategy is not None:
        own.strategy = pb.Strategy.Value(f"STRATEGY_{table.strategy.name}")
    defaults = layered(configs.get(table.serving_config, pb.RecommendRequest()), own)
    return Variant(
        name,
        table.percent,
        table.bundle or "",
        table.bundle_version,
        defaults,
        attributes_in(defaults),
        Limits(**table.canary.model_dump()) if table.canary else None,
    )
