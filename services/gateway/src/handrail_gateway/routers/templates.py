"""Templates: what there is, and workflows made of it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from handrail_gateway.answers import Answer
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.making import make
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import invalid, not_found
from handrail_gateway.routers.workflows import summary
from handrail_gateway.schemas import AgentRequest, InstantiateRequest, Template, TemplateInstance, TemplatePage
from handrail_gateway.templates import instantiate, mistakes, templates

router = APIRouter(prefix="/workflows/templates", tags=["templates"])

TemplateId = Annotated[str, Path(min_length=1, max_length=100)]
SHOWN = ("id", "name", "category", "tags", "description")


@router.get("", response_model=TemplatePage)
async def list_templates(
    caller: CallerDep,
    category: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """By name."""
    (after,) = decode_cursor(cursor, str)
    wanted = [
        template
        for template in templates().values()
        if category in (None, template["category"]) and (after is None or template["name"] > after)
    ]
    items, next_cursor = page(wanted[: limit + 1], limit, lambda template: (template["name"],))
    return Answer({"items": [{key: template[key] for key in SHOWN} for template in items], "next_cursor": next_cursor})


@router.get("/{template_id}", response_model=Template)
async def get_template(template_id: TemplateId, caller: CallerDep) -> Answer:
    """With JSON Schema of its parameters, its agents, its definition, and an input that it runs on."""
    return Answer(_template(template_id))


@router.post("/{template_id}/instantiate", status_code=201, response_model=TemplateInstance)
async def instantiate_template(
    template_id: TemplateId,
    gateway: GatewayDep,
    caller: CallerDep,
    body: InstantiateRequest | None = None,
    key: Key = None,
) -> Answer:
    """Registers its agents and saves a workflow that is yours to change. The same parameters use the same agents again."""
    template, body = _template(template_id), body or InstantiateRequest()
    if errors := mistakes(template, body.parameters):
        raise invalid(
            f"{len(errors)} of the parameters can't be used; `errors` says which. Nothing was stored.", errors
        )
    owner = f"{caller.organization_id}/{caller.project_id}"
    instance = instantiate(template, body.parameters, owner, body.name)
    agents = {
        name: AgentRequest(kind="llm", name=name, description=agent["description"], config=agent["config"])
        for name, agent in instance.agents.items()
    }
    row = await make(gateway, caller, instance.document, agents, key)
    made = {
        **summary(row, instance.document["description"]),
        "definition": instance.document,
        "template_id": template_id,
        "agents": sorted(instance.agents),
        "example": template["example"],
    }
    return Answer(made, 201, {"Location": f"/api/v1/workflows/{row['workflow_id']}"})


def _template(template_id: str) -> dict[str, Any]:
    found = templates().get(template_id)
    if found is None:
        raise not_found("template", template_id)
    return found
