"""What a description of a workflow says, by rules and without a model: sentences in, a plan out. Pure.

It knows imperative sentences and the words that join them: "then", "and", "in parallel", "if ... otherwise", "for each", "until",
"before", "after". What it doesn't know becomes a task in the words of the sentence.
"""

import re

from handrail.offline_workflows.plans import (
    Approve,
    Choice,
    Each,
    Item,
    Items,
    Plan,
    Route,
    Signal,
    Task,
    Together,
    Until,
    Wait,
)
from handrail.offline_workflows.triggers import trigger_of
from handrail.offline_workflows.words import AGENT_OF, COUNT, FORMS, LEADING, NUMBERS, SECONDS

_TIME = re.compile(rf"(?:another )?{COUNT}(?: an?)?[ -](second|minute|hour|day|week)s?\b", re.I)

_PEOPLE = (
    "manager|person|human|lawyer|attorney|supervisor|boss|lead|colleague|operator|somebody|someone|people|employee|doctor|director|"
    "cfo|ceo|cto|accountant|owner|moderator|officer|administrator|admin|me|us|legal|management|engineer|maintainer|counsel|editor-in-chief"
)
_WHO = re.compile(rf"\b((?:an? |the |our |my )?(?:[\w-]+ ){{0,2}}?(?:{_PEOPLE}))\b", re.I)
_CONSENT = r"approval|sign-?off|consent|permission|confirmation|clearance|go-ahead"
_APPROVAL = re.compile(
    rf"\b(?:{_CONSENT})\b|\bapprov(?:e|es|ed)\b"
    rf"|\b(?:{_PEOPLE})\b[^,]*?\b(?:reviews?|confirms?|checks?|decides?|releases?|signs? off|looks?|accepts?|agrees?|approves?)\b"
    rf"|\bask (?:an? |the |our |my )?(?:[\w-]+ ){{0,2}}?(?:{_PEOPLE})\b"
    rf"|\b(?:escalate|hand|forward|pass|route)\b[^,]*\bto (?:an? |the |our |my )?(?:[\w-]+ ){{0,2}}?(?:{_PEOPLE})\b",
    re.I,
)
_CARELESS = re.compile(
    r"\bwithout (?:any )?(?:approval|asking|a human|a person|human|confirmation)|\bno (?:approval|human)", re.I
)

_LATER = (
    "finally|afterwards|after that|at the end|in the end|lastly|in (?:both|either|any) cases?"
    "|(?:when|once) (?:all|everything) (?:is|are) done"
)
_OPENER = re.compile(
    rf"^(?:(?:and|but|then|next|{_LATER}|(?:first|second|third)(?:ly)?|please|also|now|so|(?:it|you) should|we)\b,?\s*)+",
    re.I,
)
_TAIL = re.compile(rf",?\s*\b(?:and\s+)?(?:{_LATER})\b,?\s*|[,;]\s*then\b,?\s*", re.I)
_THEN = re.compile(rf",?\s*(?:\band\s+)?\b(?:then|next|{_LATER})\b,?\s*|;\s*", re.I)
_ELSE = re.compile(r"[,;]?\s*\b(?:but )?(?:otherwise|or else|else|if not)\b,?\s*", re.I)
_IF = re.compile(r"^if (.+?)(?:, then\b,?|,|\bthen\b)\s*(.+)$", re.I)
_MID_IF = re.compile(r"(?:[,;:]\s*(?:and\s+|but\s+)?|\s+and\s+|\bthen\s+)(?=if\b(?! not\b))", re.I)
_LATE_IF = re.compile(r"^(.+?)\s+(only if|if|unless)\s+(.+?)$", re.I)
_EACH = re.compile(
    r"^for (?:each|every)(?: one)?(?: of (?:the|these|our|my))?\s+([\w -]+?)(?: (?:in|of|from|on) [^,:]+)?\s*[,:]\s*(.+)$",
    re.I,
)
_MID_EACH = re.compile(r"(?:[,;:]\s*(?:and\s+)?|\s+and\s+|\bthen,?\s+)(?=for (?:each|every)\b)", re.I)
_LATE_EACH = re.compile(r"^(.+?)\s+for (?:each|every)(?: one)?(?: of (?:the|these|our|my))?\s+([\w-]+)\b.*$", re.I)
_EACH_OBJECT = re.compile(r"^(\w[\w-]*) (?:each|every)(?: one)?(?: of (?:the|these|them))?\s*([\w-]*)(.*)$", re.I)
_SIDE = re.compile(
    r",?\s*\b(?:all )?(?:in parallel|at the same time|simultaneously|concurrently|side by side|at once)\b:?,?\s*", re.I
)
_SEVERAL = re.compile(
    rf"^(?:let|have|ask|use|get)?\s*{COUNT} (?:different |independent )?([\w-]+?)s?\b(?: to)? (.+)$", re.I
)
_UNTIL = re.compile(r"^(.+?),?\s+until\s+(.+)$", re.I)
_BEFORE = re.compile(r"^(.+?),?\s+(?:before|prior to)\s+(.+)$", re.I)
_ONCE = re.compile(r"^(?:only )?(?:after|once|when|as soon as)\s+(.+?),\s*(.+)$", re.I)
_AFTER = re.compile(r"^(.+?),?\s+(?:only )?(?:after|once|when|as soon as)\s+(.+)$", re.I)
_ACTOR = re.compile(
    r"^(?:have|let|get|make|use|ask|with) (?:(?:an?|the|our|my) )?([\w -]+?)(?: agent)?(?:,? to)? (\w[\w-]*)\b(.*)$",
    re.I,
)
_ROUTE = re.compile(
    r"^(?:route|send|forward|assign|hand|pass|dispatch)\b.*\b(?:right|matching|fitting|respective|appropriate|responsible|corresponding|specialists?)\b",
    re.I,
)
_REPEAT = re.compile(r"^(?:repeat(?:edly)?|keep|loop)\b:?\s*", re.I)
_LABELS = re.compile(r"\b(?:as|into|in|between)\b (.+)$", re.I)


def plan_of(text: str) -> Plan:
    trigger, rest = trigger_of(" ".join(text.split()))
    items: list[Item] = []
    for sentence in re.split(r"(?<=[.!?;])\s+", rest):
        _join(items, sentence.strip(" .!?;,"))
    return Plan(trigger, tuple(items), careless(text))


def careless(text: str) -> bool:
    """Whether it is said that nobody has to be asked."""
    return bool(_CARELESS.search(text))


def _join(items: list[Item], sentence: str) -> None:
    """A sentence that begins with "otherwise" belongs to the decision before it."""
    found = _ELSE.match(sentence)
    if found and items and isinstance(items[-1], Choice) and not items[-1].otherwise:
        kept, later = _parted(sentence[found.end() :])
        items[-1] = Choice(items[-1].condition, items[-1].then, items_of(kept))
        items += items_of(later)
    else:
        items += items_of(sentence)


def _parted(text: str) -> tuple[str, str]:
    """What belongs to a branch or a loop, and what comes after it."""
    found = re.search(rf",?\s*\b(?:and\s+)?(?:{_LATER})\b,?\s*", text, re.I)
    return (text[: found.start()], text[found.end() :]) if found else (text, "")


def items_of(text: str) -> Items:
    text = _OPENER.sub("", text.strip(" ,.;:")).strip(" ,.;:")
    if not text:
        return ()
    for read in (_read_if, _read_each, _read_several):
        if (found := read(text)) is not None:
            return found
    parts = [part for part in _THEN.split(text) if part.strip()]
    if len(parts) > 1:
        return tuple(item for part in parts for item in items_of(part))
    return _segment(text)


def _read_if(text: str) -> Items | None:
    middle = _MID_IF.search(text)
    if middle and not _IF.match(text):
        return (*items_of(text[: middle.start()]), *items_of(text[middle.end() :]))
    whole = _IF.match(text)
    if not whole:
        return None
    then, *others = _ELSE.split(whole[2], maxsplit=1)
    then, after = (then, "") if others else _parted(then)
    otherwise, later = _parted(others[0]) if others else ("", after)
    return (Choice(whole[1], items_of(then), items_of(otherwise)), *items_of(later))


def _read_each(text: str) -> Items | None:
    if (middle := _MID_EACH.search(text)) and not _EACH.match(text):
        return (*items_of(text[: middle.start()]), *items_of(text[middle.end() :]))
    whole = _EACH.match(text)
    if not whole:
        return None
    body, *later = _TAIL.split(whole[2], maxsplit=1)
    return (Each(whole[1], items_of(body)), *(item for part in later for item in items_of(part)))


def _read_several(text: str) -> Items | None:
    """Side by side, as far as the next "then"."""
    if not _SIDE.search(text):
        return None
    parts = [part for part in _THEN.split(text) if part.strip()]
    if len(parts) > 1:
        return tuple(item for part in parts for item in (_together(part) if _SIDE.search(part) else items_of(part)))
    return _together(text)


def _together(text: str) -> Items:
    head, later = _SIDE.split(text, maxsplit=1)
    after = re.match(r"^(?:and\s+)?([\w-]+)", later)
    if head.strip() and after and after[1].lower() in LEADING:
        return (*_together_of(head), *items_of(later))
    return _together_of(f"{head} {later}")


def _together_of(text: str) -> Items:
    bare = _OPENER.sub("", text.strip(" ,:")).strip()
    several = _SEVERAL.match(bare)
    if several and NUMBERS.get(several[1].lower(), several[1] if several[1].isdigit() else 1) != 1:
        number = min(int(NUMBERS.get(several[1].lower(), 0) or several[1]), 8)
        task = _task(several[3])
        return (Together(tuple((Task(task.verb, task.text, f"{several[2]} {n}"),) for n in range(1, number + 1))),)
    pieces = [piece.strip() for piece in re.split(r",\s*(?:and\s+)?|\s+and\s+", bare) if piece.strip()]
    branches = [_segment(piece) for piece in _completed(pieces)]
    return (Together(tuple(branches)),) if len(branches) > 1 else _segment(bare)


def _completed(pieces: list[str]) -> list[str]:
    """ "translate it into German", "French": the second gets the verb of the first, and its preposition."""
    head, found = "", []
    for piece in pieces:
        words = piece.split()
        if words[0].lower() in FORMS or _APPROVAL.search(piece) or words[0].lower() in LEADING:
            into = re.match(r"^(.*\b(?:into|to|in|for|about|on|by|from)\b )", piece, re.I)
            head = into[1] if into else f"{words[0]} "
            found.append(piece)
        else:
            found.append(head + piece)
    return found


def _segment(text: str) -> Items:
    for read in (_read_wait, _read_once, _read_repeated):
        if (found := read(text)) is not None:
            return found
    pieces = _verbs_apart(text)
    if len(pieces) > 1:
        return _all(pieces)
    for read in (_read_order, _read_until, _read_late, _read_object):
        if (found := read(text)) is not None:
            return found
    return (_plain(text),)


def _verbs_apart(text: str) -> list[str]:
    places = [
        found
        for found in re.finditer(r",\s*(?:and\s+)?|\s+and\s+", text)
        if (word := re.match(r"[\w-]+", text[found.end() :])) and word[0].lower() in LEADING
    ]
    starts = [0, *(found.end() for found in places)]
    ends = [*(found.start() for found in places), len(text)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=True) if text[start:end].strip()]


def _read_wait(text: str) -> Items | None:
    pauses = re.match(r"^(?:wait|pause|sleep)(?:ing)?(?: for)? ", text, re.I)
    if pauses:
        rest = text[pauses.end() :]
        if time := _TIME.match(rest):
            return (_wait(time), *items_of(re.sub(r"^,?\s*(?:and|before)\b", "", rest[time.end() :])))
        if _APPROVAL.search(rest):
            return None
        pieces = _verbs_apart(re.sub(r"^(?:until|for)\s+", "", rest))
        return (Signal(pieces[0]), *_all(pieces[1:]))
    if (late := re.match(rf"^after {_TIME.pattern},?\s*(.+)$", text, re.I)) and (time := _TIME.search(text)):
        return (_wait(time), *items_of(late[3]))
    if (late := re.match(rf"^{_TIME.pattern} later,?\s*(.+)$", text, re.I)) and (time := _TIME.search(text)):
        return (_wait(time), *items_of(late[3]))
    if (late := re.match(rf"^(.+?) after {_TIME.pattern}$", text, re.I)) and (
        time := _TIME.search(late[0], late.end(1))
    ):
        return (_wait(time), *items_of(late[1]))
    return None


def _wait(time: "re.Match[str]") -> Wait:
    number = float(time[1]) if time[1].isdigit() else NUMBERS[time[1].lower()]
    return Wait(round(number * SECONDS[time[2].lower()]))


def _read_once(text: str) -> Items | None:
    """ "after A, B"."""
    found = _ONCE.match(text)
    if not found:
        return None
    return (*(_segment(found[1]) if _APPROVAL.search(found[1]) else ()), *_segment(found[2]))


def _read_order(text: str) -> Items | None:
    """ "A before B", "B once A"."""
    if (found := _BEFORE.match(text)) and _acts(found[2]):
        return (*_segment(found[1]), *_segment(_imperative(found[2]) or found[2]))
    if (found := _AFTER.match(text)) and not _APPROVAL.match(text):
        return (*(_segment(found[2]) if _APPROVAL.search(found[2]) else ()), *_segment(found[1]))
    return None


def _acts(text: str) -> bool:
    return bool(_APPROVAL.search(text)) or bool(_imperative(text))


def _imperative(text: str) -> str:
    """ "sending it" and "it is sent" as "send it"; empty if no known verb is in it."""
    words = text.split()
    for place, word in enumerate(words):
        verb = FORMS.get(word.lower().strip(",.;"))
        if verb is not None and (place == 0 or word.lower() != verb):
            rest = (
                words[place + 1 :]
                if place == 0
                else [w for w in words[:place] if w.lower() not in ("is", "are", "gets", "be", "being")]
            )
            return " ".join([verb, *rest])
    return ""


def _read_repeated(text: str) -> Items | None:
    """ "repeat: A and B until C"; without that word only what stands before "until" is repeated."""
    return _read_until(text) if _REPEAT.match(text) else None


def _read_until(text: str) -> Items | None:
    found = _UNTIL.match(text)
    if not found:
        return None
    body = [_imperative_first(piece) for piece in _verbs_apart(_REPEAT.sub("", found[1]))]
    condition, *later = _verbs_apart(found[2])
    return (Until(condition, _all(body)), *_all(later))


def _all(pieces: list[str]) -> Items:
    return tuple(item for piece in pieces for item in _segment(piece))


def _imperative_first(text: str) -> str:
    first, _, rest = text.partition(" ")
    return f"{FORMS.get(first.lower(), first)} {rest}".strip()


def _read_late(text: str) -> Items | None:
    """ "escalate it if it is urgent, otherwise answer it"."""
    found = _LATE_IF.match(text)
    if not found:
        return None
    condition, *others = _ELSE.split(found[3], maxsplit=1)
    then = _segment(found[1])
    otherwise = items_of(others[0]) if others else ()
    return (Choice(condition, otherwise, then) if found[2].lower() == "unless" else Choice(condition, then, otherwise),)


def _read_object(text: str) -> Items | None:
    """ "translate each chapter", "write a card for every guest"."""
    found = _LATE_EACH.match(text)
    if found:
        return (Each(found[2], _segment(found[1])),)
    found = _EACH_OBJECT.match(text)
    if not found or found[1].lower() not in AGENT_OF or _ROUTE.match(text):
        return None
    noun = found[2] or "item"
    pieces = _verbs_apart(f"{found[1]} the {noun.removesuffix('s')}{found[3]}")
    return (Each(noun, _all(pieces[:1])), *_all(pieces[1:]))


def _plain(text: str) -> Item:
    if _ROUTE.match(text) and not _APPROVAL.search(text):
        return Route(text)
    if _APPROVAL.search(text) and not careless(text):
        return _approve(text)
    return _task(text)


def _approve(text: str) -> Approve:
    found = _WHO.search(text)
    who = (
        re.sub(
            r"^(?:(?:ask|to|by|from|if|has|have|let|when|until|after|once|with|the approval of) )+",
            "",
            found[1],
            flags=re.I,
        )
        if found
        else ""
    )
    return Approve(who or "a person", text)


def _task(text: str) -> Task:
    named = _ACTOR.match(text)
    if named and (verb := FORMS.get(named[2].lower())):
        return Task(verb, f"{verb}{named[3]}", named[1])
    first = text.split(" ", 1)[0].lower()
    verb = FORMS.get(first, "")
    if not verb and first in ("the", "a", "an", "our", "it", "each", "an"):
        words = [word.lower().strip(",.") for word in text.split()]
        verb = next((FORMS[word] for word in words if word in FORMS and word != FORMS[word]), "")
    return Task(verb, text)


def labels_of(text: str) -> list[str]:
    """ "classify it as billing, technical or general": the three; none if it names none."""
    found = _LABELS.search(text)
    pieces = re.split(r",\s*(?:or\s+|and\s+)?|\s+or\s+|\s+and\s+", found[1]) if found else []
    labels = [re.sub(r"^(?:an?|the) ", "", piece.strip()) for piece in pieces]
    return labels if 2 <= len(labels) <= 8 and all(1 <= len(label.split()) <= 3 for label in labels) else []
