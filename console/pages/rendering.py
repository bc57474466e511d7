"""How values are written in pages."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final
from urllib.parse import urlencode

from google.protobuf.timestamp_pb2 import Timestamp
from starlette.datastructures import QueryParams

from tandem.requests import name_of
from tandem.v1 import common_pb2
from tandem.v1 import recommendation_service_pb2 as pb

HUNDRED: Final = 100.0


def percent(share: float) -> str:
    """A probability, to two figures."""
    whole = share * HUNDRED
    if whole == 0 or math.isnan(whole):
        return "0%" if whole == 0 else "–"
    digits = 0 if whole >= 10 else 1 if whole >= 1 else 2
    return f"{whole:.{digits}f}%" if whole >= 0.01 else "<0.01%"


def probability(log_probability: float) -> str:
    """The probability of a logarithm."""
    return percent(math.exp(log_probability))


def score(value: float) -> str:
    """A score, to three places."""
    return f"{value:.3f}".replace("-", "−")


def milliseconds(seconds: float) -> str:
    """A duration; a dash for none."""
    return "–" if math.isnan(seconds) else f"{seconds * 1e3:.1f}"


def values(attribute: common_pb2.AttributeValues) -> str:
    """The values of an attribute."""
    return ", ".join(
        value.text if value.HasField("text") else f"{value.number:g}" for value in attribute.values
    )


def details(attributes: Mapping[str, common_pb2.AttributeValues]) -> str:
    """All attributes of an item, by name."""
    return " · ".join(values(attributes[name]) for name in sorted(attributes))


def day(time: Timestamp) -> str:
    """A day, in UTC."""
    return time.ToDatetime(UTC).strftime("%Y-%m-%d")


def strategy(value: int) -> str:
    """A strategy by its name."""
    return name_of(pb.Strategy, value)


def rule(value: int) -> str:
    """A rule by its name."""
    return name_of(pb.Rule, value)


def fallback(value: int) -> str:
    """What took the place of a step, in words."""
    return name_of(pb.Fallback, value).replace("_", " ")


def adding(query: QueryParams, **more: object) -> str:
    """The address of the same page with another value of some parameters; None takes one away."""
    kept = [(name, value) for name, value in query.multi_items() if value and name not in more]
    return "?" + urlencode([*kept, *((n, v) for n, v in more.items() if v is not None)])


def curve(values: Sequence[float], places: int, width: float, height: float) -> str:
    """A line through values, as SVG's points: the newest at the right edge; NaN has no point.

    Args:
        values: the oldest first.
        places: that there is room for.
        width: of the picture.
        height: of the picture, which the largest value has.
    """
    top = max((value for value in values if not math.isnan(value)), default=0.0) or 1.0
    step = width / max(1, places - 1)
    return " ".join(
        f"{width - (len(values) - 1 - place) * step:.1f},{height - value / top * height:.1f}"
        for place, value in enumerate(values)
        if not math.isnan(value)
    )


def latest(values: Sequence[float]) -> float:
    """The newest value; NaN for none."""
    return values[-1] if values else math.nan


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "percent": percent,
    "probability": probability,
    "score": score,
    "ms": milliseconds,
    "values": values,
    "details": details,
    "day": day,
    "strategy": strategy,
    "rule": rule,
    "fallback": fallback,
    "adding": adding,
    "curve": curve,
    "latest": latest,
}
"""By their names in templates."""
