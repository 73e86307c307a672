"""How a workflow starts, as its description says it. Pure."""

import re
from typing import Any

from handrail.offline_workflows.words import COUNT, NUMBERS

Json = dict[str, Any]

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_AT = r"(?:,? at (noon|midnight|\d{1,2})(?::(\d\d))?\s*(am|pm|a\.m\.|p\.m\.|o'clock|h)?)?"
_OFTEN = re.compile(rf"\bevery (?:{COUNT} )?(minute|hour)s?\b,?\s*|\b(hourly)\b,?\s*", re.I)
_REGULAR = re.compile(
    rf"\b(?:(?:on )?(?:every|each) (day|morning|evening|night|weekday|working day|week|month|{'|'.join(_DAYS)})s?"
    rf"|(daily|nightly|weekly|monthly)|on (weekdays|{'|'.join(f'{day}s' for day in _DAYS)})"
    rf"|on the (first day of (?:the|every|each) month)){_AT},?\s*",
    re.I,
)
_WEBHOOK = re.compile(
    r"\b(?:(?:when|whenever|every time|each time|once|if|on) [^,.]*?\bweb-?hooks?\b"
    r"|triggered by (?:an? )?web-?hook)[^,.]*[,.]?\s*",
    re.I,
)
_EVENT = re.compile(
    r"\b(?:when|whenever|on|every time|each time) (?:an?|the) (?:event )?['\"`]?([\w.-]+)['\"`]? event\b[^,.]*[,.]\s*",
    re.I,
)
_EVENT_NAMED = re.compile(
    r"\b(?:when|whenever|on|every time|each time) (?:an?|the) event ['\"`]?([\w.-]+)['\"`]?[^,.]*[,.]\s*", re.I
)
_CHAT = re.compile(
    r"\b(?:when|whenever) [^,.]*?\bchats?\b[^,.]*,\s*|\b(?:in|via|over|through) (?:a|the|our) chat\b,?\s*|\bchat ?bot\b",
    re.I,
)
_WHEN = re.compile(
    r"^(?:when|whenever|every time|each time|once|as soon as) (?!approved)[^,]*?"
    r"\b(?:arrives?|comes?|is|are|gets?|has|writes?|asks?|opens?|sends?|submits?|fills?|reports?|calls?|signs?|uploads?)\b[^,]*,\s*",
    re.I,
)
_HOURS = {"morning": 8, "evening": 18, "night": 2, "nightly": 2}


def trigger_of(text: str) -> tuple[Json, str]:
    """The trigger's parameters, and the text without what says so."""
    if found := _OFTEN.search(text):
        number = 1 if not found[1] else int(found[1]) if found[1].isdigit() else max(1, int(NUMBERS[found[1].lower()]))
        minutes = found[2] is not None and found[2].lower() == "minute"
        cron = (
            f"*/{min(number, 59)} * * * *" if minutes else f"0 {'*' if number == 1 else f'*/{min(number, 23)}'} * * *"
        )
        return {"kind": "schedule", "cron": cron}, _without(text, found)
    if found := _REGULAR.search(text):
        return {"kind": "schedule", "cron": _cron(found)}, _without(text, found)
    if found := _WEBHOOK.search(text):
        return {"kind": "webhook"}, _without(text, found)
    if found := _EVENT.search(text) or _EVENT_NAMED.search(text):
        return {"kind": "event", "event": found[1].lower()}, _without(text, found)
    if found := _CHAT.search(text):
        return {"kind": "chat"}, _without(text, found)
    found = _WHEN.match(text)
    return {"kind": "api"}, _without(text, found) if found else text


def _without(text: str, found: "re.Match[str]") -> str:
    return f"{text[: found.start()]} {text[found.end() :]}".strip(" ,")


def _cron(found: "re.Match[str]") -> str:
    said = next(part for part in found.groups()[:4] if part).lower()
    hour = _HOURS.get(said, 9)
    if at := found[5]:
        hour = {"noon": 12, "midnight": 0}.get(at.lower(), int(at) if at.isdigit() else 0)
        half = (found[7] or "").lower()[:1]
        hour = (hour % 12 + 12 if half == "p" else hour % 12 if half == "a" else hour) % 24
    minute = min(int(found[6] or 0), 59)
    day = "1" if "month" in said else "*"
    weekday = next((str(number) for number, name in enumerate(_DAYS) if said.startswith(name)), "*")
    if said in ("weekday", "weekdays", "working day"):
        weekday = "1-5"
    if said in ("week", "weekly"):
        weekday = "1"
    return f"{minute} {hour} {day} * {weekday}"
