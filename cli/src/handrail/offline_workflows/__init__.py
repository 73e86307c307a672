"""What the offline model answers when it is asked to design a workflow: rules instead of a model, for the demo and the tests.

`sentences` reads what is wanted, `building` makes steps of it, `staff` finds who does them. A description that says no
more than a subject gets the template of that subject.
"""

import json
import re
from dataclasses import replace
from typing import Any

from handrail_gateway.generation.wording import OPENING
from handrail_gateway.templates import instantiate, templates

from handrail.offline_workflows.building import Builder
from handrail.offline_workflows.plans import Plan, Task, Together, tasks_in
from handrail.offline_workflows.sentences import careless, plan_of
from handrail.offline_workflows.staff import Staff, words_of
from handrail.offline_workflows.words import SMALL

Json = dict[str, Any]

SUBJECTS = {
    "customer-support": r"\bsupport\b.*\b(?:e-?mail|mail|message|request|ticket)s?\b|\bcustomer (?:support|service|care)\b",
    "sales-lead": r"\b(?:sales )?leads?\b|\bprospects?\b",
    "it-incident": r"\bincidents?\b|\boutages?\b|\balerts?\b",
    "legal-contract-review": r"\bcontracts?\b|\blegal\b",
    "code-review": r"\bcode[- ]reviews?\b|\bpull requests?\b|\breview (?:the |my |our )?code\b|\bmerge requests?\b",
    "research-team": r"\bresearch\b",
    "content-marketing": r"\bcontent\b|\bmarketing\b|\bblog\b|\barticles?\b",
    "service-desk": r"\b(?:service|help) ?desk\b|\bhelpdesk\b",
}
"""Templates by what is said of their subject."""


def designs(instructions: str) -> bool:
    """Whether these are the instructions of a workflow architect."""
    return instructions.startswith(OPENING)


def answer(wish: str) -> str:
    """What a model would say to the wish that it was sent."""
    asked = json.loads(wish)
    text = asked["description"]
    staff = Staff({agent["id"]: agent for agent in asked["existing_agents"]}, asked["existing_tools"])
    plan = replace(plan_of(text), careless=careless(" ".join([text, *asked["constraints"]])))
    subject = next((name for name, said in SUBJECTS.items() if re.search(said, text, re.I)), None)
    whole = _of_template(subject, plan) if subject and _says_no_more(plan) else _of_plan(text, plan, staff)
    return json.dumps(whole | {"existing_mcps_used": []}, ensure_ascii=False)


def _says_no_more(plan: Plan) -> bool:
    items = tasks_in(plan.items)
    return len(items) <= 1 and not any(isinstance(item, Together) for item in items)


def _of_plan(description: str, plan: Plan, staff: Staff) -> Json:
    chat = plan.trigger["kind"] == "chat"
    builder = Builder(staff, "input.current_message" if chat else "input", plan.careless)
    builder.add("start", "trigger", f"Start: {plan.trigger['kind']}", plan.trigger)
    builder.build(plan.items or (Task("", description),))
    name = _name_of(description)
    used = sorted({agent for agent in staff.agents if f'"{agent}"' in json.dumps(builder.steps)})
    return {
        "workflow": {
            "id": "-".join(words_of(name)[:5]) or "workflow",
            "name": name,
            "description": description[:900],
            "steps": builder.steps,
        },
        "agents_to_create": list(staff.created.values()),
        "existing_agents_used": used,
        "mcps_suggested": _suggested(staff),
        "explanation": _explained(plan, builder.steps, staff, used),
    }


def _name_of(description: str) -> str:
    """Its first words, up to one that says something."""
    words = description.split()[:8]
    while words and words[-1].lower().strip(",.;:") in SMALL | {"then", "otherwise", "else"}:
        words.pop()
    return " ".join(words).strip(" ,.;:")[:80] or "Workflow"


def _of_template(subject: str, plan: Plan) -> Json:
    """Its agents without the model that they run on: that is not the architect's to say."""
    template = templates()[subject]
    instance = instantiate(template, {}, "")
    names = {name: f"{subject}-{part}" for name, part in zip(instance.agents, template["agents"], strict=True)}
    text = json.dumps(instance.document)
    for name, wanted in names.items():
        text = text.replace(f'"{name}"', f'"{wanted}"')
    workflow = json.loads(text) | {"id": subject}
    if plan.trigger["kind"] != "api":
        start = next(step for step in workflow["steps"] if step["step_type"] == "trigger")
        start["parameters"] = plan.trigger
    agents = [
        {
            "id": names[name],
            "name": names[name].replace("-", " ").capitalize(),
            "description": agent["description"],
            **{
                part: value
                for part, value in agent["config"].items()
                if part in ("instructions", "tools", "output_schema")
            },
        }
        for name, agent in instance.agents.items()
    ]
    return {
        "workflow": workflow,
        "agents_to_create": agents,
        "existing_agents_used": [],
        "mcps_suggested": [],
        "explanation": f"This is the template {template['name']}: {template['description']}",
    }


def _suggested(staff: Staff) -> list[Json]:
    if "mailer" not in staff.created:
        return []
    return [{"id": "mail", "description": "Sends e-mails; the mailer only words them", "tools": ["send_email"]}]


def _explained(plan: Plan, steps: list[Json], staff: Staff, used: list[str]) -> str:
    gates = sum(step["step_type"] == "human_approval" for step in steps)
    people = f" People are asked {gates} time(s), before what can't be undone or where you said so." if gates else ""
    agents = f" It uses {', '.join(used)}." if used else ""
    new = f" New: {', '.join(staff.created)}." if staff.created else ""
    return f"It starts by {plan.trigger['kind']} and has {len(steps)} steps.{people}{agents}{new}"
