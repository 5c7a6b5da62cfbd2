"""Pages of points. A chart wants all of them at once and gets them; who asks for fewer goes on behind the last."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.capacity.records import CapacityPoint
from app.pagination import Position


@dataclass(frozen=True, slots=True)
class PointsRequest:
    """`limit` None is no limit."""

    limit: int | None
    cursor: str | None
    include_total: bool


@dataclass(frozen=True, slots=True)
class PointsPage:
    items: Sequence[CapacityPoint]
    next_cursor: str | None
    total: int | None


def page_of(points: Sequence[CapacityPoint], request: PointsRequest) -> PointsPage:
    """A point's place is the number of its first day: days that come late shift no page. Raises InvalidCursor."""
    behind = Position.parse(request.cursor)
    left = [point for point in points if point.start.toordinal() > behind]
    items = left[: request.limit]
    next_cursor = Position.encode(items[-1].start.toordinal()) if len(items) < len(left) else None
    return PointsPage(items, next_cursor, len(points) if request.include_total else None)
