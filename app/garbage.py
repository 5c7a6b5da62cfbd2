"""Python's garbage collector, as a process that lives long and loads much needs it."""

import gc
from functools import cache

# New containers before the youngest generation is looked through; Python's default is 700.
GARBAGE_THRESHOLD = 20_000


def collect_seldom() -> None:
    """First of all in a process that is to live long: looking for garbage in what it loads took a quarter of the
    start."""
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)


@cache
def settle_garbage_collector() -> None:
    """What is alive now lives as long as the process, so looking through it again and again finds nothing.

    Once a process: a second application's start would make the first one's remains immortal.

    With the defaults, the collector took a sixth of an import's time and held the event loop for 30 ms at a time.
    """
    gc.collect()
    gc.freeze()
    collect_seldom()
