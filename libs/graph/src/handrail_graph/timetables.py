"""When something is due: cron expressions in a time zone, and intervals. Pure: the moment to look from is given."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from handrail_contracts.triggers import Timetable

MOST_YEARS = 50
"""How far cron looks ahead for the next 29 February that is a Monday."""


class TimetableError(Exception):
    """A timetable that is none. `field` says where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise TimetableError("timezone", f"there is no time zone {name!r}; write one such as Europe/Berlin") from error


def check(timetable: Timetable) -> None:
    """Raises `TimetableError`."""
    zone = _zone(timetable.timezone)
    if bool(timetable.cron) == (timetable.every_seconds is not None):
        raise TimetableError("cron", "say when: one of cron, every_seconds")
    if timetable.cron:
        try:
            next(CronSim(timetable.cron, datetime(2026, 1, 1, tzinfo=zone)))
        except CronSimError as error:
            why = f"{timetable.cron!r} is no cron expression: {str(error).lower()}"
            message = f"{why}; write five fields: minute hour day month weekday"
            raise TimetableError("cron", message) from error
        except StopIteration:
            raise TimetableError("cron", f"{timetable.cron!r} is never due") from None


def next_due(timetable: Timetable, after: datetime) -> datetime | None:
    """The first due time later than `after`; None once it is over."""
    start = timetable.start_at
    if start is not None and after < start:
        after = start - timedelta(microseconds=1)
    due = _next_cron(timetable, after) if timetable.cron else _next_interval(timetable, after)
    return None if due is None or (timetable.end_at is not None and due > timetable.end_at) else due


def _next_cron(timetable: Timetable, after: datetime) -> datetime | None:
    local = after.astimezone(_zone(timetable.timezone))
    try:
        due: datetime = next(CronSim(timetable.cron, local))
    except (CronSimError, StopIteration):
        return None
    return due.astimezone(UTC)


def _next_interval(timetable: Timetable, after: datetime) -> datetime | None:
    if timetable.every_seconds is None:
        return None
    origin = timetable.start_at or datetime(1970, 1, 1, tzinfo=UTC)
    passed = (after - origin).total_seconds() // timetable.every_seconds
    due = origin + timedelta(seconds=(passed + 1) * timetable.every_seconds)
    return due if due > after else due + timedelta(seconds=timetable.every_seconds)


def upcoming(timetable: Timetable, after: datetime, count: int) -> list[datetime]:
    """The next due times; fewer if it is over before."""
    found: list[datetime] = []
    while len(found) < count and (due := next_due(timetable, after)) is not None:
        found.append(due)
        after = due
    return found
