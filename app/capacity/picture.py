"""A chart as SVG: a line of averages with a band from the smallest size to the largest, axes, and words for who cannot
see it.

Nothing in it is run or loaded. Colours stand at the elements and are light; the one style sheet changes them where
the reader's screen is dark, and is allowed by its hash. Text is escaped by the writer of XML, and what XML cannot hold
is replaced.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from app.capacity.periods import name
from app.capacity.records import CapacityPoint, Chart
from app.capacity.scales import ByteScale, byte_scale, in_words

_STYLE: Final = (
    "@media (prefers-color-scheme: dark) {"
    ".paper{fill:#14181d}.text{fill:#e6e9ec}.axis{stroke:#4a535d}.grid{stroke:#2b323a}"
    ".line{stroke:#6cb2ff}.band{fill:#6cb2ff}.dot{fill:#6cb2ff}}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
# Of text of 12 pixels.
_CHARACTER: Final = 6.6
_LEFT, _TOP, _RIGHT, _BOTTOM = 84, 40, 40, 34
_TICK_HEIGHT, _TICK_WIDTH = 44, 92
_DOT_RADIUS: Final = 2.5
# With more points than that on a hundred pixels, dots would hide the line.
_MOST_DOTS_PER_PIXEL: Final = 0.08
# https://www.w3.org/TR/xml/#charsets
_not_in_xml = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Size:
    """In pixels."""

    width: int
    height: int


class _Plot:
    """Where in the picture days and sizes lie."""

    def __init__(self, points: Sequence[CapacityPoint], size: Size) -> None:
        self.left, self.top = _LEFT, _TOP
        self.right, self.bottom = size.width - _RIGHT, size.height - _BOTTOM
        lowest, highest = min(each.minimum_bytes for each in points), max(each.maximum_bytes for each in points)
        self.scale: ByteScale = byte_scale(lowest, highest, max(2, (self.bottom - self.top) // _TICK_HEIGHT))
        self._first = points[0].start
        self._days = (points[-1].start - self._first).days

    def x(self, point: CapacityPoint) -> float:
        if self._days == 0:
            return (self.left + self.right) / 2
        return self.left + (self.right - self.left) * (point.start - self._first).days / self._days

    def y(self, size: float) -> float:
        return self.bottom - (self.bottom - self.top) * self.scale.share(size)


def draw(chart: Chart, size: Size) -> bytes:
    """An SVG document in UTF-8."""
    root = _root(chart, size)
    _text(root, size.width / 2, 24, _cut(_title(chart), int((size.width - 40) / _CHARACTER)), "middle", "14")
    if not chart.points:
        _text(root, size.width / 2, size.height / 2, "nothing was measured", "middle")
        return _document(root)
    plot = _Plot(chart.points, size)
    _draw_sizes(root, plot)
    _draw_days(root, plot, chart)
    has_dots = len(chart.points) < (plot.right - plot.left) * _MOST_DOTS_PER_PIXEL
    for run in _runs(chart.points):
        _draw_run(root, plot, run, has_dots=has_dots)
    return _document(root)


def _root(chart: Chart, size: Size) -> Element:
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": str(size.width),
            "height": str(size.height),
            "viewBox": f"0 0 {size.width} {size.height}",
            "role": "img",
            "aria-labelledby": "title description",
            "font-family": "system-ui, sans-serif",
            "font-size": "12",
        },
    )
    SubElement(root, "title", {"id": "title"}).text = _storable(_title(chart))
    SubElement(root, "desc", {"id": "description"}).text = _storable(_description(chart))
    SubElement(root, "style").text = _STYLE
    SubElement(
        root, "rect", {"class": "paper", "width": str(size.width), "height": str(size.height), "fill": "#ffffff"}
    )
    return root


def _title(chart: Chart) -> str:
    return f"Size of {chart.name} by {chart.period}"


def _description(chart: Chart) -> str:
    summary = chart.summary
    if summary.latest_bytes is None:
        return f"Nothing was measured from {chart.days.first} to {chart.days.last}."
    growth = "" if summary.growth_bytes is None else f" Growth {_signed(summary.growth_bytes)}"
    percent = "" if summary.growth_percent is None else f" ({summary.growth_percent:+} %)"
    return (
        f"From {chart.days.first} to {chart.days.last}: {len(chart.points)} points, {in_words(summary.latest_bytes)} on"
        f" {summary.latest_on}.{growth}{percent}{'.' if growth else ''} Trend: {summary.trend}."
    )


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{in_words(abs(size))}"


def _draw_sizes(root: Element, plot: _Plot) -> None:
    for size, label in zip(plot.scale.ticks, plot.scale.labels, strict=True):
        y = plot.y(size)
        _line(root, "grid", (plot.left, y), (plot.right, y), "#e3e6e9")
        _text(root, plot.left - 8, y + 4, label, "end")


def _draw_days(root: Element, plot: _Plot, chart: Chart) -> None:
    _line(root, "axis", (plot.left, plot.bottom), (plot.right, plot.bottom), "#9aa3ac")
    free_from = 0.0
    for point in chart.points:
        x = plot.x(point)
        if x < free_from:
            continue
        free_from = x + _TICK_WIDTH
        _line(root, "axis", (x, plot.bottom), (x, plot.bottom + 4), "#9aa3ac")
        _text(root, x, plot.bottom + 19, name(chart.period, point.start), "middle")


def _runs(points: Sequence[CapacityPoint]) -> Iterator[list[CapacityPoint]]:
    """Points without a gap between them."""
    gaps = 0
    numbered = []
    for place, point in enumerate(points):
        gaps += place > 0 and points[place - 1].end + timedelta(days=1) != point.start
        numbered.append((gaps, point))
    for _, run in groupby(numbered, key=lambda each: each[0]):
        yield [point for _, point in run]


def _draw_run(root: Element, plot: _Plot, run: Sequence[CapacityPoint], *, has_dots: bool) -> None:
    upper = [(plot.x(each), plot.y(each.maximum_bytes)) for each in run]
    lower = [(plot.x(each), plot.y(each.minimum_bytes)) for each in reversed(run)]
    middle = [(plot.x(each), plot.y(each.average_bytes)) for each in run]
    if len(run) == 1:
        _line(root, "line", upper[0], lower[0], "#1769c4")
    else:
        SubElement(
            root, "path", {"class": "band", "d": f"{_path(upper + lower)}Z", "fill": "#1769c4", "opacity": "0.2"}
        )
        line = {"class": "line", "d": _path(middle), "stroke": "#1769c4", "fill": "none", "stroke-width": "1.5"}
        SubElement(root, "path", line)
    if has_dots or len(run) == 1:
        for x, y in middle:
            dot = {"class": "dot", "cx": _number(x), "cy": _number(y), "r": str(_DOT_RADIUS), "fill": "#1769c4"}
            SubElement(root, "circle", dot)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in places)


def _line(root: Element, kind: str, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    places = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
    attributes = {key: _number(value) for key, value in places.items()}
    SubElement(root, "line", {"class": kind, **attributes, "stroke": colour})


def _text(root: Element, x: float, y: float, text: str, anchor: str, size: str = "12") -> None:
    place = {"class": "text", "x": _number(x), "y": _number(y), "text-anchor": anchor, "fill": "#1f262d"}
    SubElement(root, "text", {**place, "font-size": size}).text = _storable(text)


def _number(value: float) -> str:
    return f"{value:.1f}"


def _cut(text: str, columns: int) -> str:
    """As much of the text as has room; wide characters, such as Chinese ones, take that of two."""
    taken = 0
    for place, character in enumerate(text):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > columns:
            return f"{text[: max(place - 1, 0)]}…"
    return text


def _storable(text: str) -> str:
    return _not_in_xml.sub("\N{REPLACEMENT CHARACTER}", text)


def _document(root: Element) -> bytes:
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document
