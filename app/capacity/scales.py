"""Axes: round numbers of bytes and days, and where they stand. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP: Final = 1024
# Of a power of ten; what people count by.
_ROUND: Final = (1, 2, 5, 10)
# Where all sizes lie closer together, the axis begins near them instead of at 0.
_NARROW: Final = 0.5


@dataclass(frozen=True, slots=True)
class ByteScale:
    """`ticks` are bytes; the first is the axis's beginning, the last its end."""

    ticks: Sequence[float]
    labels: Sequence[str]

    def share(self, size: float) -> float:
        """Where on the axis the size lies, from 0 to 1."""
        return (size - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


def byte_scale(lowest: int, highest: int, most_ticks: int) -> ByteScale:
    """An axis with all sizes between the two on it."""
    if lowest == highest:
        # A line in the middle, rather than no height at all.
        lowest, highest = 0, max(2 * highest, 1)
    elif lowest < highest * _NARROW:
        lowest = 0
    power = _power(highest)
    unit = _STEP**power
    step = _round_step((highest - lowest) / unit / max(most_ticks - 1, 1))
    if power == 0:
        step = max(step, 1)
    first, last = floor(lowest / unit / step), ceil(highest / unit / step)
    places = max(0, -floor(log10(step)))
    numbers = [number * step for number in range(first, max(last, first + 1) + 1)]
    return ByteScale(
        [number * unit for number in numbers], [f"{number:.{places}f} {UNITS[power]}" for number in numbers]
    )


def in_words(size: int) -> str:
    """`1.5 GiB`."""
    power = _power(size)
    return f"{size} B" if power == 0 else f"{size / _STEP**power:.1f} {UNITS[power]}"


def _power(size: int) -> int:
    return min(max(size.bit_length() - 1, 0) // 10, len(UNITS) - 1)


def _round_step(step: float) -> float:
    """The next round number."""
    power = 10.0 ** floor(log10(step))
    return next(factor * power for factor in _ROUND if factor * power >= step * (1 - 1e-9))
