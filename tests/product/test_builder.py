"""The builder's endpoints: steps one by one, the canvas, copies, other dialects, schemas of forms."""

from product.conftest import Api, Json, agent, step


def steps_of(workflow: Json) -> dict[str, list[str]]:
    return {found["step_id"]: found.get("next_steps", []) for found in workflow["definition"]["steps"]}


async def test_a_workflow_is_built_step_by_step(api: Api) -> None:
    workflow_id = await api.workflow(agent("a"))
    built = await api.post(f"/workflows/{workflow_id}/steps", {"step": agent("b"), "after": "a"}, 201)
    assert (steps_of(built), built["version"]) == ({"a": ["b"], "b": []}, 2)
    await api.post(f"/workflows/{workflow_id}/steps", {"step": agent("c")}, 201)
    connected = await api.post(f"/workflows/{workflow_id}/steps/b/connect", {"target": "c"}, 200)
    assert steps_of(connected)["b"] == ["c"]
    replaced = await api.put(
        f"/workflows/{workflow_id}/steps/c", {"step": step("c", "delay", parameters={"seconds": 0})}
    )
    assert replaced["definition"]["steps"][2]["step_type"] == "delay"
    reordered = await api.post(f"/workflows/{workflow_id}/steps/reorder", {"step_ids": ["c", "a", "b"]}, 200)
    assert list(steps_of(reordered)) == ["c", "a", "b"]
    deleted = await api.delete(f"/workflows/{workflow_id}/steps/b")
    assert steps_of(deleted) == {"c": [], "a": []}
    assert (await api.ended(await api.start(workflow_id)))["status"] == "completed"


async def test_what_can_not_be_built_is_told(api: Api) -> None:
    workflow_id = await api.workflow(agent("a", "b"), agent("b"))
    path = f"/workflows/{workflow_id}/steps"
    assert (await api.post(path, {"step": agent("b")}, 409))["code"] == "STEP_EXISTS"
    assert (await api.post(path, {"step": agent("c"), "after": "z"}, 404))["code"] == "NOT_FOUND"
    assert (await api.post(path, {"step": {"step_type": "delay"}}, 422))["errors"][0]["path"] == "step.step_id"
    cycle = await api.post(f"{path}/b/connect", {"target": "a"}, 422)
    assert "these steps wait for each other: a -> b -> a" in cycle["errors"][0]["message"]
    assert (await api.put(f"{path}/a", {"step": agent("z")}, 409))["code"] == "STEP_ID_CHANGED"
    assert (await api.post(f"{path}/reorder", {"step_ids": ["a"]}, 409))["detail"] == "Name each of the 2 steps once."
    assert (await api.get(f"/workflows/{workflow_id}"))["version"] == 1


async def test_the_canvas_shows_nodes_and_edges_and_keeps_their_places(api: Api) -> None:
    condition = step("c", "condition", "yes", parameters={"condition": "input.n > 1"}, else_steps=["no"])
    workflow_id = await api.workflow(condition, agent("yes"), agent("no", compensate_with="undo"), agent("undo"))
    canvas = await api.get(f"/workflows/{workflow_id}/canvas")
    assert {(edge["source"], edge["target"], edge["kind"]) for edge in canvas["edges"]} == {
        ("c", "yes", "next"), ("c", "no", "else"), ("no", "undo", "compensation"),
    }  # fmt: skip
    places = {node["id"]: node["position"] for node in canvas["nodes"]}
    assert places["c"] == {"x": 0, "y": 0}
    assert places["yes"]["x"] == places["no"]["x"] > 0
    await api.put(f"/workflows/{workflow_id}/nodes/yes/position", {"x": 7, "y": 8})
    await api.put(f"/workflows/{workflow_id}/canvas", {"positions": {"yes": {"x": 7, "y": 8}, "no": {"x": 1, "y": 2}}})
    canvas = await api.get(f"/workflows/{workflow_id}/canvas")
    assert {node["id"]: node["position"] for node in canvas["nodes"]}["no"] == {"x": 1, "y": 2}
    assert (await api.put(f"/workflows/{workflow_id}/nodes/nobody/position", {"x": 1, "y": 2}, 404))[
        "code"
    ] == "NOT_FOUND"


async def test_a_workflow_is_copied_and_said_in_another_dialect(api: Api) -> None:
    workflow_id = await api.workflow(tasks=[{"agent": "echo", "input": "x"}, {"agent": "echo"}])
    copy = await api.post(f"/workflows/{workflow_id}/copy", None, 201)
    assert (copy["name"], copy["version"]) == ("w (copy)", 1)
    assert copy["id"] != workflow_id
    for dialect in ("steps", "tasks", "dependencies", "definition"):
        said = await api.get(f"/workflows/{copy['id']}/export", dialect=dialect)
        execution = await api.ended(await api.start((await api.post("/workflows", said["document"], 201))["id"]))
        assert (execution["status"], execution["result"]) == ("completed", "x"), dialect
    loop = step("l", "loop", parameters={"over": [1], "steps": [agent("a")]})
    said = await api.get(f"/workflows/{await api.workflow(loop)}/export", dialect="tasks")
    assert (said["document"], said["lost"]) == (
        None,
        ["tasks are agents one after the other; there is no word for loop"],
    )


async def test_forms_can_be_drawn(api: Api) -> None:
    types = await api.get("/workflows/step-types")
    assert len(types["step_types"]) == 13
    assert types["step_types"]["human_approval"]["properties"]["on_reject"]["enum"] == ["fail", "continue"]
    assert "echo" in {found["agent"] for found in (await api.get("/workflows/resources/agents"))["items"]}


async def test_an_execution_is_found_below_workflows_too(api: Api) -> None:
    execution = await api.run(agent("a"))
    assert await api.get(f"/workflows/executions/{execution['id']}") == execution
