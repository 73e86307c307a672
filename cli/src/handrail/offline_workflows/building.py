"""A plan becomes a definition: steps one after the other, branches that meet again, agents that exist or have to be created."""

import re
from dataclasses import dataclass, field
from typing import Any, assert_never

from handrail.offline_workflows.plans import (
    Approve,
    Choice,
    Each,
    Item,
    Items,
    Route,
    Signal,
    Task,
    Together,
    Until,
    Wait,
)
from handrail.offline_workflows.sentences import labels_of
from handrail.offline_workflows.staff import Staff, telling
from handrail.offline_workflows.words import AGENT_OF, GATHERING, JUDGING, MAKING, RISKY, SMALL

Json = dict[str, Any]
End = tuple[Json, str]
"""A step, and the field of it that names what follows."""
Way = tuple[Json, str, Items]
"""And what is done there."""

RETRY = {"max_attempts": 3}
_URL = re.compile(r"https?://[^\s,;'\"<>]+")
_API = re.compile(
    r"\b(?:call|through|via|use|to|from|with|at)\b.*?\b(?:([\w-]+) )?(?:api|endpoint|rest service)\b", re.I
)
_READING = re.compile(r"^(?:fetch|get|load|read|download|check|look|pull|retrieve)\b", re.I)
_SIGNS = {
    "above": ">", "over": ">", "more than": ">", "greater than": ">", "higher than": ">", "exceeds": ">", "at least": ">=",
    "at most": "<=", "below": "<", "under": "<", "less than": "<", "lower than": "<",
}  # fmt: skip
_NUMBER = re.compile(
    rf"^(?:the |its |an? )?([a-z][\w -]*?)(?: is| are)? ({'|'.join(_SIGNS)}) \D{{0,2}}(\d+(?:\.\d+)?)", re.I
)
_DECIDED = re.compile(r"\b(?:approv\w*|agree\w*|accept\w*|says? yes|consent\w*)\b", re.I)
_REFUSED = re.compile(r"\b(?:reject\w*|refus\w*|declin\w*|says? no|not approv\w*|disapprov\w*)\b", re.I)
_DENIED = re.compile(r"\b(?:not|no|isn't|never)\b", re.I)
_ASKING = re.compile(r"^(?:ask|get|wait|obtain|request|require|let|have)\b|\bapprov|\b(?:decide|check|review)", re.I)
_NOTHING = re.compile(r"^(?:keep|leave)\b(?: \w+){0,2}$|^(?:do nothing|go on|continue|carry on|stop)\b", re.I)
_BARE = re.compile(r"^(?:the |this |that |its )?(?:approval|consent|sign-?off|release|go-ahead)$", re.I)


@dataclass(slots=True)
class Builder:
    """Steps of one graph; the body of a loop has a builder of its own. `content` is the path of what is worked on."""

    staff: Staff
    content: str
    careless: bool = False
    steps: list[Json] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    released: bool = False
    judged: str = ""
    """The new agent whose answer is the content, if it is one's: it can be asked for one field more."""
    labels: list[str] = field(default_factory=list)
    gate: str = ""
    perhaps: bool = False
    """Whether the gate is in a branch that need not be taken."""
    verdict: str = ""
    """The path of what it says, where that is not the content: a class, a score, whether something holds."""
    known: dict[str, str] = field(default_factory=dict)
    measured: str = ""
    last: str = ""

    def add(
        self, step_id: str, kind: str, name: str, parameters: Json, field_: str = "next_steps", **more: Any
    ) -> Json:
        """A step that everything open leads to, and that is open itself."""
        number, wanted = 1, slug(step_id)
        while (chosen := wanted if number == 1 else f"{wanted}_{number}") in self.used:
            number += 1
        self.used.add(chosen)
        named = {"step_id": chosen, "step_type": kind, "name": name[:1].upper() + name[1:80]}
        step = {**named, "parameters": parameters, "next_steps": [], **more}
        for before, where in self.ends:
            if chosen not in (following := before.setdefault(where, [])):  # two empty branches lead to it once
                following.append(chosen)
        self.steps.append(step)
        self.ends = [(step, field_)]
        return step

    def build(self, items: Items) -> None:
        for item in items:
            self._item(item)

    def _item(self, item: Item) -> None:
        match item:
            case Task():
                self.task(item)
            case Approve(who=who, text=text):
                self._approve(who, text)
            case Wait(seconds=seconds):
                unit, size = next(
                    (u, s) for u, s in (("hours", 3600), ("minutes", 60), ("seconds", 1)) if not seconds % s
                )
                self.judged = self.verdict = ""
                self.add("wait", "delay", f"Wait {seconds // size} {unit}", {unit: seconds // size})
            case Signal(text=text):
                self.judged = self.verdict = ""
                self.add("wait_for", "signal", f"Wait for {text}", {"name": slug(text)})
            case Choice():
                self._choice(item)
            case Each():
                self._each(item)
            case Until():
                self._until(item)
            case Together():
                self._together(item)
            case Route(text=text):
                self._route(text)
            case _:
                assert_never(item)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def task(self, task: Task) -> None:
        if _NOTHING.match(task.text):
            return
        if task.verb in GATHERING and self.steps and self.steps[-1]["step_id"].startswith("gather"):
            return  # that is done already
        if task.verb in RISKY and not (self.released or self.careless or "automatically" in task.text.lower()):
            self._approve("a person", task.text)
        address, service = _URL.search(task.text), _API.search(task.text)
        tool = self.staff.tool_for(task.text)
        if tool is not None:
            self._tool(tool, task.text)
        elif address:
            self._call(task.text, address[0].rstrip("."))
        elif service:
            self._call(task.text, f"{{{{context.{slug(service[1] or 'the')}_api_url}}}}")
        else:
            self._agent(task)

    def _tool(self, tool: Json, text: str) -> None:
        before = "user_input" if self.content == "input" else self.content
        given = self.staff.arguments(tool, f"{{{{{before}}}}}", text)
        self._does(text, "tool_call", {"tool": tool["name"], "arguments": given})
        if text.lower().startswith("count"):
            self.content, self.measured = before, self.content

    def _call(self, text: str, url: str) -> None:
        reads = bool(_READING.match(text))
        body = {} if reads else {"body": f"{{{{{self.content}}}}}"}
        self._does(text, "api_call", {"url": url, "method": "GET" if reads else "POST", **body})
        if reads:
            self.content += ".body"

    def _agent(self, task: Task) -> None:
        agent, existing = self.staff.agent_for(task.verb, task.text, task.actor)
        before, material = self.content, f"{{{{{self.content}}}}}"
        told = {"task": task.text, "material": material, **({"known": dict(self.known)} if self.known else {})}
        alone = existing and not self.staff.reads_tasks(agent) and " into " not in task.text
        step = self._does(task.text, "agent_execution", {"agent_id": agent, "input": material if alone else told})
        self.judged = "" if existing else agent
        if AGENT_OF.get(task.verb) in JUDGING:  # what it judges is still what is worked on
            self.known[step["step_id"]], self.content, self.verdict = f"{{{{{self.content}}}}}", before, self.content
        if task.verb in MAKING:
            self.released = False
        labels = labels_of(task.text) if AGENT_OF.get(task.verb) == "classifier" else []
        if labels and not existing:
            self.labels = [slug(label) for label in labels]
            self.staff.asks_for(agent, "category", {"type": "string", "enum": self.labels})

    def _does(self, text: str, kind: str, parameters: Json) -> Json:
        step = self.add(short(text), kind, text, parameters, retry=RETRY)
        self.judged, self.verdict, self.labels = "", "", []
        self.content = self.last = f"steps.{step['step_id']}.output"
        return step

    def _approve(self, who: str, text: str) -> None:
        if _BARE.match(text) and self.gate:
            self.released = True  # the one before is meant
            return
        told = "may it go on?" if _ASKING.search(text) else f"{text}?"
        message = f"{told[:1].upper()}{told[1:]}" if who == "a person" else f"For {who}: {told}"
        parameters = {"approvers": [], "message": message, "show": f"{{{{{self.content}}}}}", "timeout_hours": 72}
        self.gate, self.perhaps = self.add("approval", "human_approval", f"{who} decides", parameters)["step_id"], False
        self.released = True

    # --- ways -------------------------------------------------------------------------------------------------------

    def _choice(self, choice: Choice) -> None:
        step = self.add("if", "condition", choice.condition, {"condition": self._condition(choice.condition)})
        self._chosen([(step, "next_steps", choice.then), (step, "else_steps", choice.otherwise)])

    def _route(self, text: str) -> None:
        if not self.labels:
            self.task(Task("route", text))
            return
        path, labels = f"{self.verdict or self.content}.category", self.labels
        cases: list[Json] = [{"condition": f"{{{{{path}}}}} == '{label}'", "next_steps": []} for label in labels[:-1]]
        step = self.add("route", "switch", text, {"cases": cases}, "else_steps")
        handled = [(Task("", f"Handle what is {label}", f"{label} specialist"),) for label in labels]
        ways: list[Way] = [(case, "next_steps", task) for case, task in zip(cases, handled, strict=False)]
        self._chosen([*ways, (step, "else_steps", handled[-1])])

    def _chosen(self, ways: "list[Way]") -> None:
        """One of them is gone: what came of it stands where the others lead nowhere."""
        before, gate = self.last or self.content, self.gate
        lasts = [path for path in self._branches(ways) if path]
        if lasts:
            self.last = " ?? ".join(dict.fromkeys([*lasts, before]))
        self.perhaps = self.gate != gate

    def _together(self, together: Together) -> None:
        step = self.add("side_by_side", "parallel", "Side by side", {})
        lasts = self._branches([(step, "next_steps", branch) for branch in together.branches])
        outputs = {path.split(".")[1]: f"{{{{{path}}}}}" for path in lasts if path}
        gather = self.add("gather", "data_transform", "Put together", {"output": outputs})
        self.content = self.last = f"steps.{gather['step_id']}.output"

    def _branches(self, ways: "list[Way]") -> list[str]:
        """Builds each; gives the path of what was done last in each. Afterwards they are all open."""
        before = self._state()
        ends: list[End] = []
        contents, lasts, released, gates = [], [], True, [self.gate]
        for step, where, items in ways:
            self._go_on_from(before)
            self.ends, self.last = [(step, where)], ""
            self.build(items)
            ends += self.ends
            contents.append(self.content)
            lasts.append(self.last)
            gates.append(self.gate)
            released = released and self.released
        self._go_on_from(before)
        self.ends, self.released, self.judged, self.labels = ends, released, "", []
        self.gate = next((gate for gate in gates if gate), "")
        changed = [path for path in dict.fromkeys(contents) if path != self.content]
        self.content = " ?? ".join([*changed, self.content])
        return lasts

    def _state(self) -> tuple[Any, ...]:
        own = (self.content, self.last, self.released, self.judged, self.verdict, self.measured, self.gate)
        return (*own, list(self.labels), dict(self.known))

    def _go_on_from(self, state: tuple[Any, ...]) -> None:
        self.content, self.last, self.released, self.judged, self.verdict, self.measured, self.gate, labels, known = (
            state
        )
        self.labels, self.known = list(labels), dict(known)

    def _condition(self, text: str) -> str:
        if self.gate and (_DECIDED.search(text) or _REFUSED.search(text)):
            return self._decided(refused=bool(_REFUSED.search(text)))
        if number := _NUMBER.match(text):
            name = slug(number[1])
            measured = f"{self.measured}.{name}" if self.measured else ""
            path = measured or self._field(name, {"type": "number"}, "input")
            return f"{{{{{path}}}}} {_SIGNS.get(number[2].lower(), '>')} {number[3]}"
        words = [word for word in re.findall(r"[a-z][\w'-]*", text.lower()) if word not in SMALL]
        name = "_".join(slug(word) for word in words[:3]) or "so"
        if not self.judged:
            self.judge(text)
        path = self._field(name, {"type": "boolean"})
        return f"{{{{{path}}}}} == {'false' if _DENIED.search(text) else 'true'}"

    def _decided(self, refused: bool) -> str:
        gate = next((step for step in self.steps if step["step_id"] == self.gate), None)
        assert gate is not None, "a loop's body has gates of its own"
        gate["parameters"]["on_reject"] = "continue"
        place = self.gate
        if self.perhaps:  # nobody was asked where the branch of the gate was not taken
            output = {"approved": f"{{{{steps.{place}.output.approved ?? true}}}}"}
            place = self.add("decided", "data_transform", "What was decided", {"output": output})["step_id"]
        return f"{{{{steps.{place}.output.approved}}}} == {'false' if refused else 'true'}"

    def judge(self, question: str) -> None:
        """A new agent says whether it is so; what is worked on stays what it was."""
        told = "Say whether what is asked holds for the material, and why."
        agent = self.staff.create("judge", "Judges whether something holds", told)
        given = {"question": question, "material": f"{{{{{self.content}}}}}"}
        parameters = {"agent_id": agent, "input": given}
        step = self.add("judge", "agent_execution", f"Is it so: {question}", parameters, retry=RETRY)
        self.judged, self.verdict = agent, f"steps.{step['step_id']}.output"

    def _field(self, name: str, schema: Json, otherwise: str = "") -> str:
        """Where the answer to that is found: in a field of the new agent before, or of the input."""
        if not self.judged:
            return f"{otherwise}.{name}"
        self.staff.asks_for(self.judged, name, schema)
        return f"{self.verdict or self.content}.{name}"

    # --- loops ------------------------------------------------------------------------------------------------------

    def _each(self, each: Each) -> None:
        noun = slug(each.noun)
        items = noun if noun.endswith("s") else f"{noun}s"
        listed = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        over = self.content if self.content.endswith(".body") else self._field(items, listed, "input")
        body = self._inner("loop.item", each.body)
        parameters = {"over": f"{{{{{over}}}}}", "max_parallel": 5, "steps": body.steps}
        self._looped(self.add(f"each_{noun}", "loop", f"For each {each.noun}", parameters), "")

    def _until(self, until: Until) -> None:
        """Each turn works on what the turn before made."""
        body = self._inner(f"loop.last.result ?? {self.content}", until.body)
        if not body.judged:
            body.judge(until.condition)
        done = body._field("done", {"type": "boolean", "description": until.condition})
        output = {"done": f"{{{{{done}}}}}", "result": f"{{{{{body.content}}}}}"}
        body.add("turn", "data_transform", "What this turn gives", {"output": output})
        parameters = {"until": "{{loop.last.done}} == true", "max_iterations": 10, "steps": body.steps}
        self._looped(self.add("repeat", "loop", f"Until {until.condition}", parameters), ".result")

    def _looped(self, step: Json, part: str) -> None:
        self.judged, self.verdict, self.labels = "", "", []
        self.content = self.last = f"steps.{step['step_id']}.output{part}"

    def _inner(self, content: str, items: Items) -> "Builder":
        body = Builder(self.staff, content, self.careless, used=self.used, released=self.released)
        body.build(items)
        if not body.steps:
            body.task(Task("", "Go through it"))
        return body


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].strip("_") or "x"


def short(text: str) -> str:
    """Its first words that say something."""
    return "_".join(telling(_URL.sub("", text))[:3]) or "step"
