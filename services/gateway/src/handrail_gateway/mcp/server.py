"""What a model can do here: seven tools. Each is a few calls of the API with the caller's own rights; nothing is decided here."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal

from handrail_contracts.agents import IDEMPOTENCY_KEY
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from handrail_gateway.mcp.api import Api, at
from handrail_gateway.mcp.following import follow
from handrail_gateway.schemas import (
    ApprovalPage,
    ApprovalSummary,
    ExecutionPage,
    ExecutionStatus,
    JsonObject,
    StepError,
    Workflow,
    WorkflowPage,
)
from handrail_gateway.streaming import TERMINAL

LONGEST_WAIT = 50.0
"""Seconds; most clients give a call a minute."""
MOST_STEPS = 200

INSTRUCTIONS = (
    "Handrail runs workflows of agents, with people who decide at approval gates. Find a workflow with list_workflows, "
    "see what input it wants with get_workflow, start it with start_workflow. An execution goes on by itself: look at it "
    "with get_execution, with wait_seconds to wait for news. When it waits for an approval, ask the person you work for, "
    "and tell their decision with decide_approval; never decide on your own."
)

Cursor = Annotated[str | None, Field(description="`next_cursor` of the page before; absent for the first page")]
Limit = Annotated[int, Field(ge=1, le=200, description="how many at most")]
Seconds = Annotated[
    float,
    Field(
        ge=0,
        le=LONGEST_WAIT,
        description="wait so long for the execution to end or to ask for a person's decision, whichever is first; "
        "0 answers at once. If it still runs then, call get_execution again.",
    ),
]
WorkflowId = Annotated[str, Field(min_length=1, max_length=200, description="`id` of list_workflows")]
ExecutionId = Annotated[str, Field(min_length=1, max_length=200, description="`execution_id` of start_workflow")]
ApprovalId = Annotated[str, Field(min_length=1, max_length=200, description="`id` of list_approvals")]

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
STARTS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)
"""A workflow does whatever its steps do; with the same idempotency_key it is started once."""
DECIDES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)
"""What an approval sets free can't be called back; the same decision again changes nothing."""


class StepState(BaseModel):
    step_id: str
    step_type: str
    status: str
    agent: str | None
    attempt: int
    result: Any = None
    error: StepError | None


class ExecutionState(BaseModel):
    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    ended: bool = Field(description="it is completed, failed, cancelled or timed out; nothing of it changes any more")
    waits_for: str = Field(description="what it waits for, in a sentence")
    result: Any = Field(description="what the workflow gave, once it is completed")
    error: StepError | None
    approvals: list[ApprovalSummary] = Field(description="gates that wait for decide_approval")
    steps: list[StepState] = Field(description=f"in the order in which they began; the latest {MOST_STEPS}")


Open = Callable[[Context[Any, Any]], AbstractAsyncContextManager[Api]]
"""The API with the credentials of whoever makes this request."""


@dataclass(frozen=True, slots=True)
class Tools:
    open: Open

    async def list_workflows(self, ctx: Context[Any, Any], limit: Limit = 50, cursor: Cursor = None) -> WorkflowPage:
        """The workflows that can be started: id, name, what it is for. Latest change first."""
        async with self.open(ctx) as api:
            return WorkflowPage.model_validate(await api.get("/workflows", limit=limit, cursor=cursor))

    async def get_workflow(
        self,
        ctx: Context[Any, Any],
        workflow_id: WorkflowId,
        version: Annotated[int | None, Field(ge=1, description="an earlier version; the newest if absent")] = None,
    ) -> Workflow:
        """One workflow with its definition: its steps, and where they use `input`, which is what it wants to be given."""
        async with self.open(ctx) as api:
            return Workflow.model_validate(await api.get(at("workflows", workflow_id), version=version))

    async def start_workflow(
        self,
        ctx: Context[Any, Any],
        workflow_id: WorkflowId,
        input: Annotated[Any, Field(description="what its steps see as `input`: a text or an object")] = None,
        context: Annotated[JsonObject | None, Field(description="what its steps see as `context`")] = None,
        wait_seconds: Seconds = 0,
        idempotency_key: Annotated[
            str | None,
            Field(
                max_length=200,
                pattern=r"^[\x21-\x7e]+$",
                description="any name for this start, such as order-4711: the same key with the same input starts it "
                "once, however often it is called. Give one if you may have to repeat the call.",
            ),
        ] = None,
    ) -> ExecutionState:
        """Starts the newest version of a workflow, and says how it stands: at once, or after waiting for news."""
        body = {"input": input} | ({} if context is None else {"context": context})
        async with self.open(ctx) as api:
            key = idempotency_key or _key_of(ctx)
            started = (await api.post(at("workflows", workflow_id, "execute"), body, key))["execution_id"]
            try:
                return await _state(ctx, api, started, wait_seconds, False)
            except ToolError as error:
                raise ToolError(f"execution {started} was started; how it stands can't be told now: {error}") from error

    async def get_execution(
        self,
        ctx: Context[Any, Any],
        execution_id: ExecutionId,
        wait_seconds: Seconds = 0,
        step_results: Annotated[bool, Field(description="also what each step gave, which may be long")] = False,
    ) -> ExecutionState:
        """How an execution stands: its status, what it waits for, its steps, its result once it is completed."""
        async with self.open(ctx) as api:
            return await _state(ctx, api, execution_id, wait_seconds, step_results)

    async def list_executions(
        self,
        ctx: Context[Any, Any],
        workflow_id: Annotated[str | None, Field(max_length=200, description="only of this workflow")] = None,
        status: Annotated[ExecutionStatus | None, Field(description="only those in this status")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> ExecutionPage:
        """Executions, the latest first."""
        async with self.open(ctx) as api:
            query = {"workflow_id": workflow_id, "status": status, "limit": limit, "cursor": cursor}
            return ExecutionPage.model_validate(await api.get("/executions", **query))

    async def list_approvals(
        self,
        ctx: Context[Any, Any],
        execution_id: Annotated[str | None, Field(max_length=200, description="only of this execution")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> ApprovalPage:
        """The gates that wait for a person's decision, the oldest first: what is asked, what to look at, who may decide."""
        async with self.open(ctx) as api:
            query = {"status": "pending", "execution_id": execution_id, "limit": limit, "cursor": cursor}
            return ApprovalPage.model_validate(await api.get("/approvals", **query))

    async def decide_approval(
        self,
        ctx: Context[Any, Any],
        approval_id: ApprovalId,
        decision: Literal["approved", "rejected"],
        comment: Annotated[str, Field(max_length=10_000, description="why; it is kept with the decision")] = "",
    ) -> ApprovalSummary:
        """Decides a gate, for good, in the name of the person whose token this is. Only say what that person has said."""
        key = sha256(f"{decision}\n{comment}".encode()).hexdigest()
        async with self.open(ctx) as api:
            body = {"decision": decision, "comment": comment}
            return ApprovalSummary.model_validate(await api.post(at("approvals", approval_id), body, key))


def _key_of(ctx: Context[Any, Any]) -> str | None:
    key = (ctx.request_context.meta or {}).get(IDEMPOTENCY_KEY)
    return key if isinstance(key, str) else None


async def _state(
    ctx: Context[Any, Any], api: Api, execution_id: str, wait_seconds: float, step_results: bool
) -> ExecutionState:
    if wait_seconds:
        told = 0

        async def tell(news: str) -> None:
            nonlocal told
            told += 1
            await ctx.report_progress(told, message=news)

        await follow(api, execution_id, wait_seconds, tell)
    found = await api.get(at("executions", execution_id))
    ended = found["status"] in TERMINAL
    why = await api.get(at("executions", execution_id, "why"))
    gates = [] if ended else (await api.get("/approvals", execution_id=execution_id, status="pending"))["items"]
    steps = [StepState.model_validate(step) for step in found["steps"][-MOST_STEPS:]]
    return ExecutionState(
        execution_id=execution_id,
        workflow_id=found["workflow_id"],
        status=found["status"],
        ended=ended,
        waits_for=why["why"],
        result=found["result"],
        error=found["error"],
        approvals=gates,
        steps=steps if step_results else [step.model_copy(update={"result": None}) for step in steps],
    )


def make_server(open: Open, version: str) -> MCPServer[Any]:
    tools = Tools(open)
    server: MCPServer[Any] = MCPServer(
        "handrail", title="Handrail", instructions=INSTRUCTIONS, version=version, log_level="WARNING"
    )
    for reads in (
        tools.list_workflows,
        tools.get_workflow,
        tools.get_execution,
        tools.list_executions,
        tools.list_approvals,
    ):
        server.add_tool(reads, annotations=READS)
    server.add_tool(tools.start_workflow, annotations=STARTS)
    server.add_tool(tools.decide_approval, annotations=DECIDES)
    return server
