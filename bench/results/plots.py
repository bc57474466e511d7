"""Line charts as SVG, which needs no library to write and any browser to read."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH, HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 170, 40, 50
_TICKS: Final = 5
_COLORS: Final = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#34495e")

Points = Sequence[tuple[float, float]]


def line_chart(title: str, x_label: str, y_label: str, series: Mapping[str, Points]) -> str:
    """A chart with a line for each series, its points marked.

    Args:
        title: above it.
        x_label: below it.
        y_label: beside it.
        series: points by name; those without any are left out.

    Returns:
        An SVG document.
    """
    series = {name: points for name, points in series.items() if points}
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    across = _Axis.over(xs, _LEFT, WIDTH - _RIGHT)
    up = _Axis.over(ys, HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(_LEFT, 20, title, "start"),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 10, x_label, "middle"),
        _text(_LEFT, _TOP - 6, y_label, "end"),
        *(_text(across.at(x), HEIGHT - _BOTTOM + 18, f"{x:.4g}", "middle") for x in across.ticks),
        *(_text(_LEFT - 6, up.at(y) + 4, f"{y:.3g}", "end") for y in up.ticks),
        *(f'<path d="M{_LEFT} {up.at(y):.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>' for y in up.ticks),
    ]
    for number, (name, points) in enumerate(series.items()):
        placed = [(across.at(x), up.at(y)) for x, y in points]
        parts.append(_line(placed, name, number))
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """Numbers to places on the page."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._high, self._start, self._end = low, high, start, end

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        """An axis on which all the values have a place."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - margin, high + margin, start, end)

    @property
    def ticks(self) -> list[float]:
        """Numbers to write beside it."""
        step = (self._high - self._low) / (_TICKS + 1)
        return [self._low + step * (i + 1) for i in range(_TICKS)]

    def at(self, value: float) -> float:
        """The place of a number."""
        return self._start + (value - self._low) / (self._high - self._low) * (
            self._end - self._start
        )


def _line(placed: Points, name: str, number: int) -> str:
    color = _COLORS[number % len(_COLORS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in placed)
    label = _text(WIDTH - _RIGHT + 12, _TOP + 18 * number + 10, name, "start", color)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>{dots}{label}'


def _text(x: float, y: float, text: str, anchor: str, color: str = "black") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
    )
