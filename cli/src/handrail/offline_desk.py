"""What the offline model says at a service desk: rules in place of understanding, for the demo and the tests.

A form that asks for a response and whether to escalate is an answer to an inquiry; one that asks for a topic and a confidence
says what an inquiry is about. Only the inquiry itself is judged; of `history` (the latest last) and `earlier` it is told.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

TOPICS = {
    "legal": ("legal", "lawsuit", "lawyer", "attorney", "gdpr", "compliance"),
    "billing": ("invoice", "charge", "refund", "pay", "bill", "subscription", "price"),
    "shipping": ("ship", "deliver", "parcel", "package", "tracking"),
    "account": ("login", "log in", "sign in", "password", "account", "profile"),
    "technical": (
        "api", "integrat", "architect", "migrat", "outage", "security breach", "data loss", "error", "crash", "bug", "webhook",
        "install", "not work", "does not load",
    ),
}  # fmt: skip
"""How their words begin. Of topics with as many of them the first counts."""
ROUTINE = {
    "We have sent you a link to set a new password; it is good for one hour.": ("login", "log in", "sign in", "password"),
    "A refund reaches your account within five working days; its status is under Billing.": ("refund",),
    "All your invoices are under Billing in your account, ready to download.": ("invoice",),
    "We are there from Monday to Friday, 9:00 to 18:00.": ("opening hours", "opening times", "are you open", "do you open"),
    "Your parcel is on its way; your order shows where it is.": ("ship", "deliver", "parcel", "package", "tracking"),
    "You can see and change your account under Settings.": ("account", "profile"),
}  # fmt: skip
TECHNICAL = ("integrat", "api", "architect", "migrat", "security breach", "outage")
COMPLEX = ("audit", "dispute", "chargeback", "compliance", "enterprise")
FOR_PEOPLE = {
    "a legal matter": ("legal", "lawsuit", "lawyer", "attorney"),
    "data was lost": ("data loss", "lost (?:all )?(?:of )?(?:my |our |the )?data"),
    "the customer wants to speak to a person": (
        "speak to a human", "talk to a human", "speak to a person", "talk to a person", "real person", "(?<!password )manager",
    ),
}  # fmt: skip
LEVELS = {"frontline": 0, "specialist": 1, "expert": 2}
SURE, FAIRLY_SURE, FOR_PEOPLE_CONFIDENCE = 0.9, 0.75, 0.3
SURE_OF_TECHNICAL, SURE_OF_COMPLEX = (0.4, 0.65, 0.85), (0.4, 0.8, 0.85)
"""By tier; those after the last are as sure as that."""


def filled(schema: Mapping[str, Any], told: Any) -> Json | None:
    """None for a form that is none of the desk's. `told` is what the model was given, read as JSON if it is that."""
    fields: Mapping[str, Any] = schema.get("properties", {})
    given = told if isinstance(told, Mapping) else {"inquiry": str(told)}
    if {"response", "confidence", "escalate"} <= set(fields):
        said = answer(given)
    elif {"topic", "confidence"} <= set(fields):
        said = classified(given, fields)
    else:
        return None
    return {name: value for name, value in said.items() if name in fields}


def answer(given: Mapping[str, Any]) -> Json:
    text = str(given.get("inquiry") or "").lower()
    topic = str(given.get("topic") or "general")
    topic = topic_of(given) if topic == "general" else topic
    words, confidence, why = judged(text, topic, level_of(given))
    person = next((reason for reason, marks in FOR_PEOPLE.items() if found(text, marks)), "")
    if person:
        words = "I pass this on to a person, who will get back to you."
        confidence, why = FOR_PEOPLE_CONFIDENCE, f"for a person: {person}"
    parts = [remembered(given, topic), colleagues(given), words]
    return {
        "response": " ".join(part for part in parts if part),
        "confidence": confidence,
        "escalate": bool(person),
        "reason": why,
    }


def judged(text: str, topic: str, level: int) -> tuple[str, float, str]:
    """What to say, how sure that is, and why."""
    for kind, sure in ((TECHNICAL, SURE_OF_TECHNICAL), (COMPLEX, SURE_OF_COMPLEX)):
        if named := found(text, kind):
            words = f"We have looked into your {topic} question and will guide you through it step by step."
            return words, sure[min(level, len(sure) - 1)], f"complex: {named}"
    for words, marks in ROUTINE.items():
        if named := found(text, marks):
            return words, SURE, f"routine: {named}"
    return f"We have read your {topic} question and will see to it today.", FAIRLY_SURE, f"nothing special: {topic}"


def level_of(given: Mapping[str, Any]) -> int:
    """0 for the first tier, 2 for the last. By `tier_number` of `tiers`, from 1; else by `tier`: a usual name, or an index
    from 0; else as many have answered `earlier`."""
    number, count = given.get("tier_number"), given.get("tiers")
    if isinstance(number, int) and isinstance(count, int):
        return 0 if number <= 1 else 1 if number < count else 2
    tier, earlier = given.get("tier"), answers(given, "earlier")
    if isinstance(tier, int) and tier >= 0:
        return tier
    return LEVELS.get(str(tier).lower(), len(earlier))


def topic_of(given: Mapping[str, Any]) -> str:
    """By the inquiry's words; of one that has none, what the customer wrote about before."""
    by_words = topic_by_words(str(given.get("inquiry") or ""))
    if by_words == "general" and (before := answers(given, "history")):
        return about(before[-1])
    return by_words


def topic_by_words(text: str) -> str:
    hits = {topic: sum(bool(found(text.lower(), (mark,))) for mark in marks) for topic, marks in TOPICS.items()}
    best = max(hits, key=hits.__getitem__)
    return best if hits[best] else "general"


def classified(given: Mapping[str, Any], fields: Mapping[str, Any]) -> Json:
    """A topic that the form allows: one that the inquiry names, or its topic by words."""
    allowed = fields["topic"].get("enum") or []
    text = str(given.get("inquiry") or "").lower()
    topic = next((name for name in allowed if found(text, (re.escape(str(name).lower()),))), None) or topic_of(given)
    sure = topic != "general"
    if allowed and topic not in allowed:
        topic, sure = "general" if "general" in allowed else allowed[-1], False
    return {"topic": topic, "specialty": topic, "confidence": SURE if sure else 0.5}


def remembered(given: Mapping[str, Any], topic: str) -> str:
    """A sentence on what the customer wrote before: of the same topic if there is such, the latest first."""
    before = answers(given, "history")
    if not before:
        return ""
    entry = next((each for each in reversed(before) if about(each) == topic), before[-1])
    wrote = " ".join(str(entry.get("inquiry") or entry.get("content") or "").split())[:80]
    return f'You wrote to us about {about(entry)} before ("{wrote}").' if wrote else ""


def about(entry: Mapping[str, Any]) -> str:
    return str(entry.get("topic") or "") or topic_by_words(str(entry.get("inquiry") or entry.get("content") or ""))


def colleagues(given: Mapping[str, Any]) -> str:
    """What the tiers before were not sure of."""
    why = [str(each["reason"]) for each in answers(given, "earlier") if each.get("reason")]
    return f"My colleagues have looked at it first ({why[-1]})." if why else ""


def answers(given: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    entries = given.get(name)
    return [each for each in entries if isinstance(each, Mapping)] if isinstance(entries, list) else []


def found(text: str, marks: Iterable[str]) -> str:
    """The first of the words in the text that begins with one of the marks; nothing if none does."""
    match = re.search(rf"\b(?:{'|'.join(marks)})\w*", text)
    return match.group() if match else ""
