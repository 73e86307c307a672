"""Words that descriptions of workflows are made of."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


GROUPS: dict[str, str] = {
    "summarizer": "summarize summarise condense digest recap",
    "translator": "translate",
    "classifier": "classify categorize categorise triage label sort tag prioritize prioritise",
    "extractor": "extract parse read pull",
    "researcher": "research investigate gather collect find search explore",
    "writer": "write draft compose create prepare generate produce formulate word document",
    "reviewer": "review proofread check verify inspect validate test",
    "editor": "edit improve revise rewrite polish correct optimize optimise",
    "analyst": "analyze analyse assess evaluate examine compare estimate calculate decide judge predict detect identify",
    "scorer": "score rate rank qualify grade",
    "responder": "answer reply respond",
    "diagnostician": "diagnose debug troubleshoot",
    "planner": "plan outline schedule split",
    "dispatcher": "route assign forward escalate dispatch hand pass",
    "notifier": "notify inform alert tell remind message report",
    "publisher": "publish release announce tweet",
    "mailer": "send e-mail email mail",
    "payer": "pay refund charge transfer reimburse",
    "operator": "deploy delete cancel order book restart merge purchase buy execute close open update store save archive log "
    "record apply fix confirm accept look enrich suggest recommend combine aggregate "
    "fetch get call load download post offer start stop "
    "pack ship deliver file convert filter remove add invite clean shorten expand explain",
}
"""New agents by name, and the verbs that mean them."""
RISKY = _set(
    "send e-mail email mail publish release announce tweet pay refund charge transfer reimburse deploy delete cancel order book "
    "purchase buy merge restart"
)
"""What can't be undone."""
AGENT_OF = {verb: agent for agent, verbs in GROUPS.items() for verb in verbs.split()}
LEADING = AGENT_OF.keys() | _set("ask let have wait pause repeat keep use count require request obtain")


def _forms(verb: str) -> dict[str, str]:
    stem = verb.removesuffix("e")
    changed = [f"{verb[:-1]}ies", f"{verb[:-1]}ied"] if verb.endswith("y") else []
    doubled = [f"{verb}{verb[-1]}ing", f"{verb}{verb[-1]}ed"]
    return dict.fromkeys([verb, f"{verb}s", f"{verb}es", f"{stem}ing", f"{stem}ed", *changed, *doubled], verb)


FORMS = {form: verb for known in AGENT_OF for form, verb in _forms(known).items()}
FORMS |= {"sent": "send", "paid": "pay", "written": "write", "bought": "buy", "goes": "send", "leaves": "send"}

NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "half": 0.5,
}  # fmt: skip
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
COUNT = rf"(\d+|{'|'.join(NUMBERS)})"

MAKING = _set(f"{GROUPS['writer']} {GROUPS['editor']} {GROUPS['responder']}")
"""What makes something new, so that a release of what was there before does not cover it."""
INSTRUCTIONS = {
    "summarizer": "Sum up the material: what matters first, nothing that is not in it.",
    "translator": "Translate the material as the task says. Keep its meaning and its tone.",
    "classifier": "Say to which class the material belongs.",
    "extractor": "Take from the material what the task asks for, and nothing else.",
    "researcher": "Find out what the task asks for. Say where each fact comes from.",
    "writer": "Write what the task asks for, from the material alone. Be clear and short.",
    "reviewer": "Look at the material as the task says. Name each problem, where it is and how bad it is.",
    "editor": "Improve the material as the task says, and give the whole of it back.",
    "analyst": "Analyse the material as the task says, and give the reasons for what you find.",
    "scorer": "Rate the material as the task says, and say why.",
    "responder": "Answer the person: friendly, short, no promises.",
    "diagnostician": "Say what the likely cause is, and what speaks for it.",
    "planner": "Make a plan of what the task asks for, in steps.",
    "notifier": "Word the message that the task asks for, in two sentences.",
    "publisher": "Put the material into the form in which it is published.",
    "mailer": "Word an e-mail of the material, with a subject. Promise nothing.",
}
GATHERING = _set("combine aggregate merge collect")
JUDGING = _set("classifier scorer")
SMALL = _set(
    "a an the it is are was were be to of in on for and or this that these there has have its not no isn t if any s by them they "
    "their me us our my"
)
"""Words that say little."""
