"""Figures of a run: rounds in shuffled order, medians, ratios to a baseline of the same round, table and files."""

import os
import platform
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import median

import orjson
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


class Comparison(StrEnum):
    """How a figure is set against its baseline's.

    RATIO is how many times as long it takes, or as much it does; RATE turns seconds around, into how many times as fast
    it is; DIFFERENCE is what it takes more, in the case's unit.
    """

    RATIO = "ratio"
    RATE = "rate"
    DIFFERENCE = "difference"

    def of(self, value: float, baseline: float, unit: str) -> float:
        match self:
            case Comparison.DIFFERENCE:
                return value - baseline
            # Figures that are rates already do not divide the other way round.
            case Comparison.RATE if unit == "s":
                return baseline / value
            case _:
                return value / baseline


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio or a difference is to be: at most or at least a limit."""

    limit: float
    at_least: bool = False

    def is_met(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: what is measured, on what, and how the figures read."""

    measurement: str
    database: str
    name: str
    baseline: str
    unit: str = "s"
    comparison: Comparison = Comparison.RATIO
    targets: Mapping[str, Target] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    measurement: str
    database: str
    case: str
    variant: str
    unit: str
    comparison: str
    median: float
    ratio: float | None
    target: str | None
    is_met: bool | None
    values: list[float]
    ratios: list[float]


Variants = Mapping[str, Callable[[], float]]
Rounds = list[dict[str, float]]


class Report:
    """Collects the lines of a run; each is shown at once and the file is written anew, so that a break loses none."""

    def __init__(self, *, rounds: int, seed: int, is_quick: bool) -> None:
        self.rounds = rounds
        self._random = random.Random(seed)
        self._console = Console(width=None if Console().is_terminal else 150)
        self._lines: list[Line] = []
        self._about = {
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "is_quick": is_quick,
            "rounds": rounds,
            "seed": seed,
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        }
        RESULTS.mkdir(exist_ok=True)
        self._path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"

    def note(self, **facts: str) -> None:
        self._about |= facts

    def say(self, what: str) -> None:
        self._console.print(f"[dim]{datetime.now(UTC):%H:%M:%S}  {what}[/dim]", highlight=False)

    def compare(self, case: Case, variants: Variants, rounds: int | None = None) -> None:
        """Runs every variant once a round, in shuffled order, and adds the case's lines. Each returns its figure."""
        measured: Rounds = []
        for number in range(1, (rounds or self.rounds) + 1):
            order = list(variants)
            self._random.shuffle(order)
            figures = {name: variants[name]() for name in order}
            measured.append({name: figures[name] for name in variants})
            shown = ", ".join(f"{name} {figure:.4g}" for name, figure in measured[-1].items())
            self.say(f"{case.measurement} / {case.database} / {case.name}, round {number}: {shown}")
        self.add(case, measured)

    def shuffled(self, names: Sequence[str]) -> list[str]:
        return self._random.sample(names, len(names))

    def add(self, case: Case, rounds: Rounds) -> None:
        """The lines of a case whose figures (by variant, for each round) are known, the baseline's first."""
        self._lines += [_line(case, variant, rounds) for variant in rounds[0]]
        self._write()

    def show(self) -> None:
        table = Table(
            title="Muster's benchmarks", caption=self._caption(), title_justify="left", caption_justify="left"
        )
        for heading in ("what", "database", "case", "variant"):
            table.add_column(heading, overflow="fold")
        for heading in ("median", "ratio", "target", ""):
            table.add_column(heading, justify="right", no_wrap=True)
        before: Line | None = None
        for line in self._lines:
            is_new = before is None or (line.measurement, line.database, line.case) != (
                before.measurement, before.database, before.case,
            )  # fmt: skip
            if is_new and before is not None:
                table.add_section()
            head = (line.measurement, line.database, line.case) if is_new else ("", "", "")
            table.add_row(*head, line.variant, *_figures(line), _verdict(line))
            before = line
        self._console.print(table)
        self._console.print(f"written to {self._path} and {self._path.with_suffix('.md').name}", highlight=False)

    def _caption(self) -> str:
        return (
            f"{self._about['rounds']} rounds in shuffled order, a checkpoint before each variant; medians; a ratio is "
            "the median of the rounds' ratios to the first variant of its case; with a sign it is the difference, in the "
            "median's unit"
        )

    def _write(self) -> None:
        content = {**self._about, "results": [asdict(line) for line in self._lines]}
        self._path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        self._path.with_suffix(".md").write_text(self._markdown())

    def _markdown(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._about.items())
        rows = [
            f"| {line.measurement} | {line.database} | {line.case} | {line.variant} | "
            + " | ".join(_figures(line))
            + f" | {_verdict(line)} |"
            for line in self._lines
        ]
        head = "| what | database | case | variant | median | ratio | target | |\n|---|---|---|---|--:|--:|--:|---|"
        return "\n".join([facts, "", head, *rows, "", self._caption(), ""])


def _line(case: Case, variant: str, rounds: Rounds) -> Line:
    values = [measured[variant] for measured in rounds]
    ratios = []
    if variant != case.baseline:
        ratios = [case.comparison.of(measured[variant], measured[case.baseline], case.unit) for measured in rounds]
    ratio = median(ratios) if ratios else None
    target = case.targets.get(variant)
    return Line(
        measurement=case.measurement,
        database=case.database,
        case=case.name,
        variant=variant,
        unit=case.unit,
        comparison=case.comparison.value,
        median=median(values),
        ratio=ratio,
        target=None if target is None else str(target),
        is_met=None if target is None or ratio is None else target.is_met(ratio),
        values=values,
        ratios=ratios,
    )


def _figures(line: Line) -> tuple[str, str, str]:
    form = "{:+.2f}" if line.comparison == Comparison.DIFFERENCE else "{:.2f}"
    ratio, least, most = ("" if each is None else form.format(each) for each in _spread(line))
    return f"{line.median:,.4g} {line.unit}", f"{ratio} ({least}–{most})" if ratio else "", line.target or ""


def _spread(line: Line) -> tuple[float | None, float | None, float | None]:
    return line.ratio, min(line.ratios, default=None), max(line.ratios, default=None)


def _verdict(line: Line) -> str:
    return "" if line.is_met is None else "met" if line.is_met else "MISSED"
