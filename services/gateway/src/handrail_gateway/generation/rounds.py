"""A wish becomes a draft: ask, check, tell the model what is wrong, ask again. Nothing is stored."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from handrail_gateway import definitions
from handrail_gateway.gateway import Gateway
from handrail_gateway.generation import drafts, wording
from handrail_gateway.generation.asking import Said
from handrail_gateway.generation.drafts import Draft, Unusable
from handrail_gateway.generation.resources import Resources, resources_of
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import GenerateRequest

log = structlog.get_logger()

LONGEST_SHOWN = 20_000
"""Characters of an answer that is no JSON, as it is shown."""


async def generate(gateway: Gateway, caller: Caller, body: GenerateRequest) -> tuple[Draft, int]:
    """A draft that compiles, and how often it was repaired. Raises a 422 `Problem` with what is wrong with the last one."""
    tenant = (caller.organization_id, caller.project_id)
    gateway.architect.begin(tenant)
    try:
        return await _rounds(gateway, caller, body)
    finally:
        gateway.architect.end(tenant)


async def _rounds(gateway: Gateway, caller: Caller, body: GenerateRequest) -> tuple[Draft, int]:
    resources = await resources_of(gateway, caller)
    wish: Said = ("user", wording.wish(body.prompt, body.context, body.constraints, resources))
    said = [wish]
    for repairs in range(body.max_repairs + 1):
        text = await gateway.architect.ask(wording.instructions(), said)
        answer: Any = text[:LONGEST_SHOWN]
        try:
            answer = drafts.read(text)
            draft = await _checked(answer, resources, gateway.architect.model)
            log.info("workflow_generated", repairs=repairs, agents=len(draft.agents), **caller.tenant.model_dump())
            return await _named(gateway, caller, draft), repairs
        except Unusable as unusable:
            errors = unusable.errors
            log.info("draft_refused", repairs=repairs, errors=len(errors), first=errors[0]["message"][:200])
        # Only the last attempt is repeated: a model needs no more, and tokens cost.
        said = [wish, ("assistant", text[: drafts.MOST_BYTES]), ("user", wording.correction(errors))]
    detail = (
        f"The model {gateway.architect.model} gave nothing usable in {body.max_repairs + 1} attempts; `errors` says what "
        "is wrong with the last, which is in `draft`. Use other words, or correct the draft. Nothing was stored."
    )
    raise Problem(422, "VALIDATION_ERROR", detail, errors=errors, more={"draft": answer})


async def _checked(answer: dict[str, Any], resources: Resources, model: str) -> Draft:
    """Raises `Unusable`."""
    document = drafts.document_of(answer)
    known = resources.known | {*drafts.names_in(answer)}
    found = await definitions.mistakes(document, known)
    errors = [{**error, "path": f"workflow.{error['path']}".rstrip(".")} for error in found]
    return await asyncio.to_thread(drafts.drafted, {**answer, "workflow": document}, resources, errors, model)


async def _named(gateway: Gateway, caller: Caller, draft: Draft) -> Draft:
    """The draft under names that nothing else has."""
    wanted = [choice for name in draft.agents for choice in drafts.candidates(name)]
    taken = {row["agent"] for row in await gateway.database.fetch("taken_agents", wanted)} if wanted else set()
    names: dict[str, str] = {}
    for name in draft.agents:
        names[name] = drafts.free(name, taken | {*names.values()} | ({*draft.agents} - {name}))
    agents = {names[name]: request for name, request in draft.agents.items()}
    workflow = {**draft.workflow, "id": await _workflow_id(gateway, caller, draft.workflow)}
    return replace(draft, workflow={**workflow, "steps": drafts.renamed(workflow["steps"], names)}, agents=agents)


async def _workflow_id(gateway: Gateway, caller: Caller, workflow: Mapping[str, Any]) -> str:
    wanted = drafts.slug(workflow.get("id") or workflow["name"])
    whose = (caller.organization_id, caller.project_id)
    rows = await gateway.database.fetch("taken_workflow_ids", *whose, drafts.candidates(wanted))
    return drafts.free(wanted, (row["id"] for row in rows))
