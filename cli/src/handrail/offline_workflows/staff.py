"""Who does it: agents and tools that exist, found by their words, and new agents where there is none."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handrail.offline_workflows.words import AGENT_OF, GROUPS, INSTRUCTIONS, SMALL

Json = dict[str, Any]

_WORD = re.compile(r"[a-z0-9]+")
_TEXTS = ("text", "body", "content", "message", "description", "data", "input", "query")
_TITLES = ("subject", "title", "name", "summary", "topic")


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def telling(text: str) -> list[str]:
    """The words that say something."""
    return [word for word in words_of(text) if word not in SMALL]


def _means(word: str, verb: str) -> bool:
    """`summary` and `summarizer` mean `summarize`; short verbs are taken as they are."""
    stem = verb.removesuffix("e")
    if len(stem) >= 5:
        return word.startswith(stem[: max(5, len(stem) - 2)])
    return word in (verb, f"{stem}er", f"{stem}or", f"{stem}ing", f"{verb}s", f"{stem}{stem[-1]}er")


@dataclass(slots=True)
class Staff:
    """`created` by id. Of several agents that could do it, the one whose words fit best is taken, then the first by name."""

    agents: Mapping[str, Json]
    tools: list[Json]
    created: dict[str, Json] = field(default_factory=dict)

    def agent_for(self, verb: str, text: str, actor: str = "") -> tuple[str, bool]:
        """Its id, and whether it exists."""
        named = self._named(text) or self._named(actor)
        chosen = named or self._best(verb, f"{actor} {text}")
        if chosen:
            return chosen, True
        base = AGENT_OF.get(verb, "")
        by_actor = re.sub(r"\W*\d+$", "", actor.lower())
        by_task = "-".join(telling(text)[:2]) if base in ("", "operator") else base
        wanted = "-".join(words_of(by_actor)) or by_task or "worker"
        told = INSTRUCTIONS.get(base, "Do what the task says with the material, and say what came of it.")
        return self.create(wanted[:60].strip("-"), f"{text[:1].upper()}{text[1:]}"[:200], told, verb), False

    def create(self, agent: str, description: str, instructions: str, *capabilities: str) -> str:
        while agent in self.agents:
            agent = f"{agent}-new"
        self.created.setdefault(
            agent,
            {
                "id": agent,
                "name": agent.replace("-", " ").capitalize(),
                "description": description,
                "capabilities": [word for word in capabilities if word],
                "instructions": instructions,
                "tools": [],
            },
        )
        return agent

    def asks_for(self, agent: str, name: str, schema: Json) -> None:
        """Its answer has that field from now on."""
        created = self.created[agent]
        free = {"type": "object", "properties": {"answer": {"type": "string"}}, "additionalProperties": False}
        form = created.setdefault("output_schema", free)
        form["properties"][name] = schema
        form["required"] = list(form["properties"])

    def reads_tasks(self, agent: str) -> bool:
        return str(self.agents[agent].get("kind")) == "llm"

    def tool_for(self, text: str) -> Json | None:
        """The tool all of whose words are said; one of a single word has to be what is done, or to be called a tool."""
        said = words_of(text)
        for tool in self.tools:
            parts = words_of(tool["name"].rpartition(":")[2])
            named = len(parts) > 1 or parts == said[:1] or "tool" in said
            if parts and named and all(any(_same(part, word) for word in said) for part in parts):
                return tool
        return None

    def arguments(self, tool: Json, content: str, text: str) -> Json:
        schema = tool.get("parameters") or {}
        given: Json = {}
        for name in schema.get("required") or list(schema.get("properties") or {"text": {}})[:1]:
            if name in _TEXTS:
                given[name] = content
            else:
                given[name] = text[:100] if name in _TITLES else f"{{{{input.{name} ?? context.{name} ?? ''}}}}"
        return given

    def _named(self, text: str) -> str:
        spaced = " ".join(words_of(text))
        found = [
            name for name in self.agents if re.search(rf"\b{re.escape(' '.join(words_of(name)) or name)}\b", spaced)
        ]
        return max(found, key=len, default="")

    def _best(self, verb: str, text: str) -> str:
        meant = GROUPS.get(AGENT_OF.get(verb, ""), verb).split() if AGENT_OF.get(verb) != "operator" else [verb]
        nouns = {word for word in words_of(text) if len(word) > 3}
        scores = {name: self._score(agent, meant, nouns) for name, agent in self.agents.items()}
        best = min(scores, key=lambda name: (-scores[name], name), default="")
        return best if best and scores[best] > 0 else ""

    @staticmethod
    def _score(agent: Json, meant: list[str], nouns: set[str]) -> int:
        titles = words_of(" ".join([agent["id"], agent.get("name", ""), *agent.get("capabilities", ())]))
        told = words_of(agent.get("description", ""))
        able = 4 * any(_means(word, verb) for verb in meant for word in titles) + any(
            _means(word, verb) for verb in meant for word in told
        )
        return able and able + len(nouns & {*titles, *told})


def _same(part: str, word: str) -> bool:
    return word == part or (len(part) > 3 and word.startswith(part[:-1])) or word in (f"{part}s", f"{part}es")
