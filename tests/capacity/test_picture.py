"""Charts as SVG: well-formed whatever the names, without anything that runs, with numbers that people count by."""

import base64
import hashlib
import re
from datetime import date
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import httpx
import pytest

from app.capacity.periods import DayRange, span
from app.capacity.picture import CONTENT_SECURITY_POLICY, Size, draw
from app.capacity.records import CapacityPoint, CapacitySummary, Chart
from app.capacity.scales import byte_scale, in_words
from app.database import Database
from app.models.capacity import AggregationPeriod, Trend
from tests.capacity.measuring import days, record
from tests.factories import Registry

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [
    "</title><script>alert(1)</script>",
    "a\"b'c&d<e>",
    "]]><!-- &lt; &#0; %x;",
    "\x01\x1b\x7f￾￿",
    "数据库" * 100,
    "\N{ROCKET}\N{RIGHT-TO-LEFT OVERRIDE}",
    "",
]


def point(day: str, size: int = 100, period: AggregationPeriod = AggregationPeriod.DAY) -> CapacityPoint:
    days = span(period, date.fromisoformat(day))
    return CapacityPoint(days.first, days.last, size, size + 10, max(size - 10, 0), None, None, Trend.STABLE, 1)


def chart(*points: CapacityPoint, name: str = "pg-01") -> Chart:
    latest = (points[-1].average_bytes, points[-1].start) if points else (None, None)
    summary = CapacitySummary(*latest, -5, -1.5, Trend.STABLE if points else None)
    ends = DayRange(date(2026, 11, 1), date(2026, 11, 30))
    return Chart(name, AggregationPeriod.DAY, ends, points, summary, [])


def drawn(subject: Chart, size: Size = Size(800, 320)) -> Element:  # noqa: B008 - it is frozen
    return ElementTree.fromstring(draw(subject, size))


def texts(root: Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


class TestDocument:
    @pytest.mark.parametrize("name", NAMES)
    def test_is_well_formed_whatever_the_name(self, name: str) -> None:
        root = drawn(chart(point("2026-11-01"), name=name))
        assert root.tag == f"{SVG}svg"
        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert tags <= {"svg", "title", "desc", "style", "rect", "text", "line", "path", "circle"}

    def test_keeps_what_can_be_kept_of_a_name(self) -> None:
        root = drawn(chart(point("2026-11-01"), name="a&b <\x01>"))
        assert root.findtext(f"{SVG}title") == "Size of a&b <\ufffd> by day"

    def test_nothing_in_it_runs_or_loads(self) -> None:
        document = draw(chart(point("2026-11-01"), point("2026-11-02"), name=NAMES[0]), Size(800, 320)).decode()
        assert not re.search(r"<script|\son\w+=|href|url\(|@import|<!ENTITY|<!DOCTYPE", document)

    def test_its_style_is_the_one_that_the_policy_allows(self) -> None:
        style = drawn(chart()).findtext(f"{SVG}style")
        assert style is not None
        assert "prefers-color-scheme: dark" in style
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
        assert "script" not in CONTENT_SECURITY_POLICY

    def test_says_in_words_what_it_shows(self) -> None:
        root = drawn(chart(point("2026-11-01", 2048), point("2026-11-03", 2048)))
        assert root.attrib["role"] == "img"
        assert root.findtext(f"{SVG}desc") == (
            "From 2026-11-01 to 2026-11-30: 2 points, 2.0 KiB on 2026-11-03. Growth -5 B (-1.5 %). Trend: stable."
        )

    def test_of_nothing_says_so(self) -> None:
        root = drawn(chart())
        assert "nothing was measured" in texts(root)
        assert "Nothing was measured" in (root.findtext(f"{SVG}desc") or "")

    def test_long_titles_are_cut(self) -> None:
        root = drawn(chart(point("2026-11-01"), name="数" * 300), Size(400, 200))
        assert len(texts(root)[0]) < 45
        assert texts(root)[0].endswith("…")


class TestLine:
    def test_has_a_break_where_nothing_was_measured(self) -> None:
        root = drawn(chart(*(point(f"2026-11-{day:02}") for day in (1, 2, 3, 6, 7, 10))))
        lines = [element for element in root.iter(f"{SVG}path") if element.get("class") == "line"]
        assert len(lines) == 2
        # The lonely one has its dot.
        assert len(list(root.iter(f"{SVG}circle"))) == 6

    def test_goes_on_over_the_end_of_a_quarter(self) -> None:
        quarters = [point(day, period=AggregationPeriod.QUARTER) for day in ("2026-10-01", "2027-01-01", "2027-04-01")]
        lines = [element for element in drawn(chart(*quarters)).iter(f"{SVG}path") if element.get("class") == "line"]
        assert len(lines) == 1

    @pytest.mark.parametrize("size", [Size(200, 120), Size(800, 320), Size(4000, 2000)])
    @pytest.mark.parametrize("sizes", [(0,), (0, 0), (5,), (1, 10**15), (10**15, 10**15 + 1), (2**53 - 1, 0, 3)])
    def test_stays_in_the_picture(self, size: Size, sizes: tuple[int, ...]) -> None:
        root = drawn(chart(*(point(day, each) for day, each in zip(days("2026-11-01", 9), sizes, strict=False))), size)
        for element in root.iter(f"{SVG}circle"):
            assert 0 <= float(element.attrib["cx"]) <= size.width
            assert 0 <= float(element.attrib["cy"]) <= size.height
        for element in root.iter(f"{SVG}path"):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", element.attrib["d"])]
            assert all(0 <= x <= size.width for x in numbers[::2])
            assert all(0 <= y <= size.height for y in numbers[1::2])

    def test_dates_do_not_overlap(self) -> None:
        root = drawn(chart(*(point(day) for day in [*days("2026-01-01", 20), *days("2026-11-01", 3)])))
        places = [float(element.attrib["x"]) for element in root.iter(f"{SVG}text") if "2026-" in (element.text or "")]
        assert len(places) > 1
        assert all(after - before > 80 for before, after in pairwise(places))


class TestScale:
    @pytest.mark.parametrize(
        ("lowest", "highest", "labels"),
        [
            (0, 100, ["0 B", "20 B", "40 B", "60 B", "80 B", "100 B"]),
            (3, 3, ["0 B", "2 B", "4 B", "6 B"]),
            (0, 0, ["0 B", "1 B"]),
            (0, 1, ["0 B", "1 B"]),
            (2**30, 5 * 2**30, ["0 GiB", "1 GiB", "2 GiB", "3 GiB", "4 GiB", "5 GiB"]),
            (0, 3 * 2**29, ["0.0 GiB", "0.5 GiB", "1.0 GiB", "1.5 GiB"]),
            # Not from 0, where all of it would be one line at the top.
            (100 * 2**20, 102 * 2**20, ["100.0 MiB", "100.5 MiB", "101.0 MiB", "101.5 MiB", "102.0 MiB"]),
        ],
    )
    def test_counts_in_round_numbers(self, lowest: int, highest: int, labels: list[str]) -> None:
        assert byte_scale(lowest, highest, 6).labels == labels

    @pytest.mark.parametrize("highest", [1, 1023, 1024, 10**6, 10**15, 2**53 - 1, 2**63])
    @pytest.mark.parametrize("lowest", [0, 1])
    def test_has_every_size_on_it(self, lowest: int, highest: int) -> None:
        scale = byte_scale(lowest, highest, 5)
        assert 0 <= scale.share(lowest) <= scale.share(highest) <= 1
        assert 2 <= len(scale.ticks) <= 7
        assert len(set(scale.labels)) == len(scale.labels)

    @pytest.mark.parametrize(
        ("size", "words"),
        [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 * 2**20, "1.5 GiB"), (10**15, "909.5 TiB")],
    )
    def test_sizes_in_words(self, size: int, words: str) -> None:
        assert in_words(size) == words


class TestCall:
    async def test_answers_with_a_picture(
        self, client: httpx.AsyncClient, database: Database, registry: Registry
    ) -> None:
        space_id = await registry.space("</svg>&")
        instance_id = await registry.instance(name="pg-01", space_id=space_id)
        for day in days("2026-11-20", 3):
            await record(database, instance_id, {NAMES[0]: 10**9, NAMES[1]: 5}, day)
        query = {"from": "2026-11-20", "to": "2026-11-23", "width": 400, "height": 200}
        for url, further, title in (
            (f"/api/v1/instances/{instance_id}/capacity.svg", {}, "Size of pg-01 by day"),
            (f"/api/v1/instances/{instance_id}/capacity.svg", {"database": NAMES[0]}, f"pg-01: {NAMES[0]}"),
            (f"/api/v1/spaces/{space_id}/capacity.svg", {"period": "week"}, "Size of </svg>& by week"),
        ):
            answer = await client.get(url, params={**query, **further})
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "image/svg+xml"
            assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            root = ElementTree.fromstring(answer.content)
            assert title in (root.findtext(f"{SVG}title") or "")
            assert (root.attrib["width"], root.attrib["height"]) == ("400", "200")
            assert "nothing was measured" not in texts(root)

    @pytest.mark.parametrize("query", ["width=199", "width=4001", "height=119", "height=2001", "width=x"])
    async def test_has_a_bounded_size(self, client: httpx.AsyncClient, registry: Registry, query: str) -> None:
        answer = await client.get(f"/api/v1/instances/{await registry.instance()}/capacity.svg?{query}")
        assert answer.status_code == 422
