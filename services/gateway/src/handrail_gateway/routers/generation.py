"""Workflows from a sentence: drafted by a language model, made when a person has looked at them."""

from fastapi import APIRouter

from handrail_gateway import definitions
from handrail_gateway.answers import Answer
from handrail_gateway.documentation import MODEL_REFUSALS
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.generation.rounds import generate
from handrail_gateway.idempotency import Key, fingerprint, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.making import make, unregistered
from handrail_gateway.problems import conflict
from handrail_gateway.routers.workflows import detail
from handrail_gateway.schemas import AgentRequest, Applied, ApplyRequest, Generated, GenerateRequest

router = APIRouter(prefix="/workflows/generate", tags=["generation"])


@router.post("", response_model=Generated, responses=MODEL_REFUSALS)
async def generate_workflow(body: GenerateRequest, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """Drafts a workflow that does what the prompt says, of the agents, tools and servers that there are, and new agents where
    those can't do it. It compiles, or is corrected by the model until it does. Stores nothing: look at it, change it, and give
    it to `apply`. Takes as long as the model of `HANDRAIL_GENERATOR_MODEL` does, times the corrections.
    """
    draft, repairs = await generate(gateway, caller, body)
    return Answer(
        {
            "workflow": draft.workflow,
            "agents_to_create": [{"agent": name, **agent.model_dump()} for name, agent in draft.agents.items()],
            "existing_agents_used": draft.agents_used,
            "mcps_suggested": [server.model_dump() for server in draft.suggested],
            "existing_mcps_used": draft.servers_used,
            "explanation": draft.explanation,
            "model": gateway.architect.model,
            "repairs": repairs,
        }
    )


@router.post("/apply", status_code=201, response_model=Applied)
async def apply_workflow(body: ApplyRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """Registers the agents and saves the workflow: all of it or, if anything is refused, nothing. The same body again gives the
    same workflow, also without an `Idempotency-Key`, and completes what was cut off half-way.
    """
    document = body.workflow.document()
    agents = {
        agent.agent: AgentRequest.model_validate(agent.model_dump(exclude={"agent"})) for agent in body.agents_to_create
    }
    whole = {"workflow": document, "agents": {name: agent.model_dump() for name, agent in agents.items()}}
    if key is None:
        key = f"apply:{fingerprint(whole).hex()}"
    else:
        gateway.recent.check(request_id(caller, "workflows/generate/apply", key), key, whole)
    row = await definitions.created(gateway, caller, document, key)
    if row is None:
        row = await make(gateway, caller, document, await unregistered(gateway, caller, agents), key)
    else:
        await _still_there(gateway, caller, row["workflow_id"])
    made = {**detail(row), "agents": sorted(agents)}
    return Answer(made, 201, {"Location": f"/api/v1/workflows/{row['workflow_id']}"})


async def _still_there(gateway: Gateway, caller: Caller, workflow_id: str) -> None:
    """Raises a 409 `Problem` if it was deleted since it was made."""
    newest = await gateway.database.row("newest_workflow", caller.organization_id, caller.project_id, workflow_id)
    if newest is not None and not newest["active"]:
        raise conflict(
            "WORKFLOW_DELETED",
            f"This was applied as workflow {workflow_id}, which was deleted. To make it anew, send another Idempotency-Key.",
        )
