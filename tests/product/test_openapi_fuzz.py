"""Whatever the API document allows, and much that it does not: no 5xx, and every answer is as documented."""

import asyncio
import json
import os
import sys
from pathlib import Path

from handrail.tokens import mint

from product.conftest import Api, Json, agent, step

TESTS = Path(__file__).parents[1]
LONG_SECONDS = os.environ.get("HANDRAIL_FUZZ_SECONDS", "")
SEED = os.environ.get("HANDRAIL_FUZZ_SEED", "1")
SHORT = """
[phases.coverage]
generation.mode = "positive"

[phases.fuzzing]
generation.max-examples = 2

[phases.stateful]
generation.max-examples = 10
"""
"""The same requests each time. With HANDRAIL_FUZZ_SECONDS, others by HANDRAIL_FUZZ_SEED, until the time is up."""
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,missing_required_header,unsupported_method,use_after_free,"
    "ignored_auth"
)
"""Not that whatever fits the document is accepted: whether a definition compiles is not for a JSON Schema to say. And not that
all else is refused: "1" passes for true."""
SUGGESTION = '{"action": "close", "reasoning": "easy", "confidence": 0.5, "suggested_data": {"x": 1}}'


async def test_every_answer_is_as_documented_and_none_is_a_5xx(api: Api, tmp_path: Path) -> None:
    async with api.as_tenant("fuzzed") as fuzzed:
        known = tmp_path / "known.json"
        known.write_text(json.dumps(await things(fuzzed)))
    (tmp_path / "schemathesis.toml").write_text("" if LONG_SECONDS else SHORT)
    budget = ("--max-time", LONG_SECONDS, "--seed", SEED) if LONG_SECONDS else ("--generation-deterministic",)
    token = mint(api.folder / "auth", user="eve", organization="fuzzed", project="p", ttl=36_000)
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{api.platform.cluster.url('gateway')}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--header", "A2A-Version: 1.0",
        "--checks", CHECKS, "--continue-on-failure", "--request-timeout", "30",
        "--warnings", "off", "--no-color", *budget,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "support.fuzzing", "HANDRAIL_FUZZ_KNOWN": str(known), "PYTHONPATH": str(TESTS)},
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await run.communicate()
    print(said.decode())
    assert run.returncode == 0


async def things(api: Api) -> Json:
    """Ids of what a tenant may have, by kind."""
    await api.put("/agents/fuzzed-suggester", {"kind": "scripted", "config": {"output": json.loads(SUGGESTION)}})
    suggesting = agent("draft", does="fuzzed-suggester")
    suggesting["parameters"]["suggestion"] = {"actions": {"close": "none"}}
    hook = step("t", "trigger", "a", parameters={"kind": "webhook"})
    workflows = [
        await api.workflow(agent("a"), name="quick"),
        await api.workflow(step("gate", "human_approval", parameters={"message": "?"}), name="gated"),
        await api.workflow(suggesting, name="suggesting"),
        await api.workflow(hook, agent("a"), name="hooked"),
        await api.workflow(agent("a"), name="to be deleted"),
    ]
    quick = [(await api.ended(await api.start(workflows[0], {"n": n})))["id"] for n in range(2)]
    open_ = [await api.start(workflows[n]) for n in (1, 2) for _ in range(8)]
    for execution in open_:
        await api.until(execution, lambda found: any(s["status"] == "waiting" for s in found["steps"]))
    url = (await api.get(f"/workflows/{workflows[3]}/webhook"))["url"]
    schedule = {"workflow_id": workflows[0], "cron": "0 9 * * *"}
    await api.put("/mcps/fuzzed-tools", {"url": "http://127.0.0.1:9/mcp"})
    await api.put("/budgets/workflow/fuzzed", {"limits": {"calls": 10}})
    return {
        "workflow_id": workflows,
        "execution_id": [*quick, *open_],
        "ended_execution_id": quick,
        "approval_id": [found["id"] for found in (await api.get("/approvals", limit=200))["items"]],
        "suggestion_id": [found["id"] for found in (await api.get("/suggestions", limit=200))["items"]],
        "schedule_id": [(await api.post("/schedules", schedule, 201))["id"] for _ in range(2)],
        "template_id": [found["id"] for found in (await api.get("/workflows/templates"))["items"]],
        "agent": ["fuzzed-suggester"],
        "server": ["fuzzed-tools"],
        "budget": ["fuzzed"],
        "scope": ["workflow"],
        "step_id": ["a", "gate"],
        "node_id": ["a"],
        "version": ["1"],
        "token": [url.rsplit("/", 1)[-1]],
        "bodies": bodies(quick[0]),
    }


def bodies(execution_id: str) -> Json:
    """Of what a JSON Schema cannot say enough about."""
    definition = {"name": "w", "steps": [agent("a", "b"), agent("b")]}
    said = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    message = {"message": said, "configuration": {"returnImmediately": True}}
    workflow, execution = "/api/v1/workflows/{workflow_id}", "/api/v1/executions/{execution_id}"
    return {
        "POST /api/v1/workflows": definition,
        f"PUT {workflow}": definition,
        "POST /api/v1/workflows/generate/apply": {"workflow": definition},
        "POST /workflows/create": {"name": "w", "tasks": [{"agent": "echo"}]},
        f"POST {workflow}/steps": {"step": agent("c")},
        f"PUT {workflow}/steps/{{step_id}}": {"step": agent("a", "b", input="another")},
        f"POST {workflow}/steps/reorder": {"step_ids": ["b", "a"]},
        f"POST {workflow}/steps/{{step_id}}/connect": {"target": "b"},
        f"POST {execution}/skip": {"step_id": "gate"},
        f"POST {execution}/edit": {"step_id": "gate", "input": {"message": "another"}},
        f"POST {execution}/rewind": {"step_id": "a"},
        f"POST {execution}/migrate": {"version": 1, "dry_run": True},
        "POST /a2a/workflows/{workflow_id}": {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "SendMessage",
            "params": message,
        },
        "POST /a2a/workflows/{workflow_id}/message:send": message,
        "POST /mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    }
