"""Values as MySQL's and MariaDB's account tables write them."""

import json
from datetime import UTC, datetime, timedelta


def number(text: str | None) -> int | None:
    """None for what is no whole number: an account is not lost for one odd value."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def count(text: str | None) -> int | None:
    """Of bytes, rows, seconds; None too for what is beyond a 64-bit integer."""
    found = number(text)
    return found if found is not None and 0 <= found < 2**63 else None


def positive(text: str | None) -> int | None:
    """A limit, of which 0 is none."""
    found = number(text)
    # The inventory's column is a 32-bit integer; a limit beyond is none.
    return found if found and 0 < found < 2**31 else None


def moment(seconds: str | None) -> datetime | None:
    """Of seconds since 1970, of which 0 is none."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC) if seconds and float(seconds) > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def expires_at(changed: str | None, lifetime_days: int | None) -> datetime | None:
    """When a password that was changed then is no longer taken; a lifetime of 0 or None has no end."""
    since = moment(changed)
    if since is None or not lifetime_days or lifetime_days < 0:
        return None
    try:
        return since + timedelta(days=lifetime_days)
    except OverflowError:
        return None


def moment_text(seconds: str | None) -> str | None:
    found = moment(seconds)
    return found.isoformat() if found else None


def json_list(text: str | None) -> list[object]:
    """Empty for what is none."""
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
