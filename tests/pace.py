"""How fast the machine computes: processors that others share do so at half their speed."""

import time
from statistics import median

# Enough to tell how fast the processor is at the moment: together two milliseconds.
PACE_SAMPLES = 5
PACE_LOOPS = 3_000


class Pace:
    """How much slower than at its best the machine computes, by what a fixed piece of work takes."""

    def __init__(self) -> None:
        self._best = min(self._sample() for _ in range(10 * PACE_SAMPLES))

    def slowness(self) -> float:
        samples = [self._sample() for _ in range(PACE_SAMPLES)]
        self._best = min(self._best, *samples)
        return median(samples) / self._best

    @staticmethod
    def _sample() -> float:
        began = time.thread_time()
        texts: dict[int, str] = {}
        for number in range(PACE_LOOPS):
            texts[number % 100] = str(number)
        return time.thread_time() - began
