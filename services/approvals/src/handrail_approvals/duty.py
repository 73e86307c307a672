"""When a reviewer works. Pure: the moment to look from is given."""

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from handrail_contracts.envelope import utc
from handrail_contracts.reviewers import Reviewer, WorkingHours

LOOK_AHEAD_DAYS = 8
"""A week from any moment on holds each weekday's hours once."""


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """UTC for a name that nobody knows: the gateway refuses those, and whoever writes to the topic must not stop a pool."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def on_duty(reviewer: Reviewer, now: float) -> bool:
    at = utc(now)
    return not any(absence.start <= at < absence.end for absence in reviewer.absences) and _in_hours(reviewer.hours, at)


def _in_hours(hours: WorkingHours | None, at: datetime) -> bool:
    if hours is None:
        return True
    local = at.astimezone(zone(hours.timezone))
    today, clock = local.isoweekday() in hours.days, local.strftime("%H:%M")
    if hours.start < hours.end:
        return today and hours.start <= clock < hours.end
    yesterday = (local.isoweekday() + 5) % 7 + 1 in hours.days
    return (today and clock >= hours.start) or (yesterday and clock < hours.end)


def next_change(reviewer: Reviewer, now: float) -> float | None:
    """The next moment at which they may come on duty; None if nothing is known that would bring them back."""
    at = utc(now)
    moments = [absence.end for absence in reviewer.absences if absence.end > at]
    if reviewer.hours is not None:
        moments += _starts(reviewer.hours, at)
    return min((moment.timestamp() for moment in moments), default=None)


def _starts(hours: WorkingHours, at: datetime) -> list[datetime]:
    local = at.astimezone(zone(hours.timezone))
    start = time.fromisoformat("00:00" if hours.start == "24:00" else hours.start)
    days = (local.date() + timedelta(days=ahead) for ahead in range(LOOK_AHEAD_DAYS))
    begins = (datetime.combine(day, start, local.tzinfo) for day in days if day.isoweekday() in hours.days)
    return [begin.astimezone(UTC) for begin in begins if begin > at]
