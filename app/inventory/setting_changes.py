"""What differs between two snapshots of a server's settings."""

from collections.abc import Mapping
from typing import NamedTuple


class SettingChange(NamedTuple):
    before: str
    after: str


class SettingChanges(NamedTuple):
    """By name, in order: the values of those that came and went, and of the others that differ."""

    added: Mapping[str, str]
    changed: Mapping[str, SettingChange]
    removed: Mapping[str, str]


def setting_changes(before: Mapping[str, str], after: Mapping[str, str]) -> SettingChanges:
    return SettingChanges(
        {name: after[name] for name in sorted(after.keys() - before.keys())},
        {
            name: SettingChange(before[name], after[name])
            for name in sorted(after.keys() & before.keys())
            if before[name] != after[name]
        },
        {name: before[name] for name in sorted(before.keys() - after.keys())},
    )
