"""Templates over HTTP: each runs as it stands, offline, to its end."""

import asyncio
from typing import Any

import pytest
from handrail_gateway.templates import templates

from product.conftest import ENDED, Api
from product.test_scale import handrail

Json = dict[str, Any]


async def finish(api: Api, execution_id: str, seconds: float = 30) -> Json:
    """Approves whatever asks for it until the execution has ended."""
    async with asyncio.timeout(seconds):
        while (found := await api.get(f"/executions/{execution_id}"))["status"] not in ENDED:
            for gate in (await api.get("/approvals", status="pending", limit=200))["items"]:
                if gate["execution_id"] == execution_id:
                    await api.post(f"/approvals/{gate['id']}", {"decision": "approved"}, 200)
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("template_id", sorted(templates()))
async def test_it_runs_as_it_stands(api: Api, template_id: str) -> None:
    made = await api.post(f"/workflows/templates/{template_id}/instantiate", None, 201)
    assert made["template_id"] == template_id
    execution = await finish(api, await api.start(made["id"], made["example"]))
    assert execution["status"] == "completed", execution["error"]
    calls = await api.get(f"/executions/{execution['id']}/model-calls")
    assert calls["totals"]["calls"] >= 2


async def test_they_are_listed_by_name_and_by_category(api: Api) -> None:
    found = await api.get("/workflows/templates", limit=5)
    rest = await api.get("/workflows/templates", cursor=found["next_cursor"])
    names = [item["name"] for item in found["items"] + rest["items"]]
    assert (len(names), names, rest["next_cursor"]) == (9, sorted(names), None)
    support = await api.get("/workflows/templates", category="customer-support")
    assert {item["id"] for item in support["items"]} == {"customer-support", "service-desk", "support-email"}
    shown = await api.get("/workflows/templates/sales-lead")
    assert shown["parameters"]["properties"]["threshold"]["default"] == 1


async def test_parameters_change_what_comes_of_it(api: Api) -> None:
    made = await api.post(
        "/workflows/templates/sales-lead/instantiate", {"name": "Big ones", "parameters": {"threshold": 50}}, 201
    )
    assert made["name"] == "Big ones"
    execution = await finish(api, await api.start(made["id"], made["example"]))
    assert {step["step_id"]: step["status"] for step in execution["steps"]}["nurture"] == "completed"


async def test_the_same_key_makes_one_workflow(api: Api) -> None:
    path = "/workflows/templates/code-review/instantiate"
    first, second = [await api.post(path, {}, 201, key="once") for _ in range(2)]
    assert first["id"] == second["id"]


async def test_mistakes_say_which_parameter(api: Api) -> None:
    told = await api.post("/workflows/templates/sales-lead/instantiate", {"parameters": {"threshold": "high"}}, 422)
    assert told["detail"] == "1 of the parameters can't be used; `errors` says which. Nothing was stored."
    assert told["errors"][0] == {
        "path": "parameters.threshold", "message": "'high' is not of type 'integer'", "code": "invalid",
    }  # fmt: skip
    told = await api.post("/workflows/templates/unheard-of/instantiate", {}, 404)
    assert "unheard-of" in told["detail"]


async def test_the_command_lists_shows_and_runs_them(api: Api) -> None:
    where = ("--url", api.platform.cluster.url("gateway"))
    code, text = await handrail(api, "templates", "list", *where)
    assert (code, len(text.splitlines())) == (0, 9)
    code, text = await handrail(api, "templates", "show", "sales-lead", *where)
    assert "threshold    from this score on a lead is strong; 1 if not given" in text
    code, text = await handrail(
        api, "templates", "run", "customer-support", "--set", "company=ACME", "--approve", *where
    )
    assert code == 0, text
    assert "asks: Send this to the customer?" in text
    assert "completed: 2 model calls" in text
    code, text = await handrail(api, "templates", "run", "sales-lead", "--set", "threshold=no", *where)
    assert (code, "parameters.threshold: 'no' is not of type 'integer'" in text) == (1, True)
