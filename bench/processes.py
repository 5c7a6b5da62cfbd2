"""What /proc tells of a process and those below it."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(process_id: int) -> Iterator[int]:
    """The process and all below it."""
    children = _children_by_parent()
    waiting = [process_id]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += children[each]


def processor_seconds(process_id: int) -> float:
    """What the process and those below it have used so far, all threads; those that have ended do not count."""
    return sum(sum(map(int, _fields(each)[11:13])) for each in tree(process_id)) / TICKS_PER_SECOND


def _children_by_parent() -> defaultdict[int, list[int]]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children[int(_fields(int(entry.name))[1])].append(int(entry.name))
    return children


def _fields(process_id: int) -> list[str]:
    """From the state on; of one that has just ended, zeros."""
    try:
        # They follow the name, which is in brackets and may hold anything.
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 50
