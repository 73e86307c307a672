"""Language models as agents, over HTTP from the workflow to the model and back."""

from typing import Any

import httpx2
from chaos.conftest import PLANTED_KEY
from handrail_contracts import topics
from handrail_contracts.topics import catalogue
from support.logs import read_log

from product.conftest import Api, agent, step

Json = dict[str, Any]


async def script(api: Api, model: str, *replies: Json) -> None:
    async with httpx2.AsyncClient() as client:
        (await client.post(f"{api.platform.model_url}/scripts/{model}", json=list(replies))).raise_for_status()


async def register(api: Api, name: str, **config: Any) -> str:
    await api.put(f"/agents/{name}", {"kind": "llm", "config": {"model": f"offline:{name}", **config}})
    return name


async def test_a_model_answers_uses_a_tool_and_every_call_is_recorded(api: Api) -> None:
    writer = await register(api, "llm-writer", tools=["word_count"], instructions="Count, then write.")
    counting = {"name": "word_count", "arguments": {"text": "one two"}}
    await script(api, writer, {"text": "Counting.", "tool_calls": [counting]}, {"text": "Two words it is."})
    execution = await api.run(agent("write", does=writer, input="Count: one two"))
    assert execution["status"] == "completed"
    assert execution["result"] == "Two words it is."
    found = await api.get(f"/executions/{execution['id']}/model-calls")
    assert [(call["step_id"], call["attempt"], call["model"], call["tools"]) for call in found["items"]] == [
        ("write", 1, writer, ["word_count"]),
        ("write", 1, writer, []),
    ]
    assert found["totals"]["calls"] == 2
    assert found["totals"]["output_tokens"] == sum(call["output_tokens"] for call in found["items"]) > 0
    told = [event["type"] for event in await api.events(execution["id"])]
    assert told.index("step.models_called") < told.index("step.completed")


async def test_words_and_tools_are_told_as_they_come(api: Api) -> None:
    writer = await register(api, "llm-teller", tools=["word_count"])
    text = " ".join(f"word{number}" for number in range(60))
    counting = {"name": "word_count", "arguments": {"text": "x"}}
    await script(api, writer, {"tool_calls": [counting]}, {"text": text, "chunk_seconds": 0.01})
    execution_id = await api.start(await api.workflow(agent("tell", does=writer)))
    await api.ended(execution_id)
    records = await read_log(api.platform.broker.bootstrap, topics.STEP_PROGRESSED)
    told = [body for record in records if (body := record.json() or {}).get("execution_id") == execution_id]
    assert [body["index"] for body in told] == list(range(len(told)))
    assert [body["kind"] for body in told[:2]] == ["tool_call", "tool_result"]
    assert "".join(body["data"]["content"] for body in told if body["kind"] == "delta") == text
    assert len(told) > 10


async def test_a_form_is_filled_and_the_next_step_reads_its_fields(api: Api) -> None:
    form = {"type": "object", "properties": {"urgent": {"type": "boolean"}}, "required": ["urgent"]}
    triage = await register(api, "llm-triage", output_schema=form)
    await script(api, triage, {"tool_calls": [{"name": "final_answer", "arguments": {"urgent": True}}]})
    execution = await api.run(
        agent("triage", "next", does=triage, input="Help!"), agent("next", input="{{steps.triage.output.urgent}}")
    )
    assert execution["result"] is True


async def test_a_model_that_fails_for_a_while_is_asked_again_by_the_steps_policy(api: Api) -> None:
    shaky = await register(api, "llm-shaky")
    await script(api, shaky, {"status": 503}, {"status": 429}, {"text": "now"})
    retry = {"max_attempts": 3, "backoff_seconds": 0.05}
    execution = await api.run(agent("ask", does=shaky, retry=retry))
    assert execution["result"] == "now"
    found = await api.get(f"/executions/{execution['id']}/model-calls")
    assert [(call["attempt"], bool(call["error"])) for call in found["items"]] == [(1, True), (2, True), (3, False)]


async def test_a_mistaken_registration_is_refused_with_what_is_wrong(api: Api) -> None:
    told = await api.put("/agents/llm-wrong", {"kind": "llm", "config": {"modle": "gpt"}}, 422)
    assert "`config.modle`: Extra inputs are not permitted" in told["errors"][0]["message"]


async def test_a_tool_that_no_runner_has_fails_the_step_with_those_there_are(api: Api) -> None:
    wrong = await register(api, "llm-wrong", tools=["fly"])
    execution = await api.run(agent("ask", does=wrong))
    assert execution["status"] == "failed"
    assert execution["error"]["message"].startswith("there is no tool 'fly'; there are ")


async def test_a_chat_remembers_its_session(api: Api) -> None:
    talker = await register(api, "llm-talker")
    workflow_id = await api.workflow(
        step("hear", "trigger", "talk", parameters={"kind": "chat"}),
        step("talk", "agent_execution", parameters={"agent_id": talker}),
    )
    await script(api, talker, {"text": "Hello Ada."}, {"text": "You are Ada."})
    for message in ("I am Ada.", "Who am I?"):
        await api.ended(await api.start(workflow_id, {"current_message": message}, session_id="s-llm"))
    async with httpx2.AsyncClient() as client:
        first, second = (await client.get(f"{api.platform.model_url}/calls/{talker}")).json()
    assert [message["content"] for message in first["messages"]] == ["I am Ada."]
    assert [message["content"] for message in second["messages"]] == ["I am Ada.", "Hello Ada.", "Who am I?"]


async def test_a_key_is_seen_by_its_provider_and_by_nobody_else(api: Api) -> None:
    config = {"model": "llm-keyed", "base_url": f"{api.platform.model_url}/v1", "api_key_env": "PLANTED_MODEL_KEY"}
    keyed = await register(api, "llm-keyed", **config)
    await script(api, keyed, {"text": "fine"}, {"status": 401, "text": f"Incorrect API key provided: {PLANTED_KEY}."})
    good, bad = [await api.run(agent("ask", does=keyed)) for _ in range(2)]
    assert (good["status"], bad["status"]) == ("completed", "failed")
    assert "Incorrect API key provided: ***." in bad["error"]["message"]
    async with httpx2.AsyncClient() as client:
        calls = (await client.get(f"{api.platform.model_url}/calls/{keyed}")).json()
    assert {call["authorization"] for call in calls} == {f"Bearer {PLANTED_KEY}"}, "the provider sees it"
    for execution in (good, bad):
        for part in ("", "/events", "/model-calls", "/timeline", "/export"):
            assert PLANTED_KEY not in str(await api.get(f"/executions/{execution['id']}{part}"))
    assert PLANTED_KEY not in str(await api.get(f"/agents/{keyed}"))
    for name in catalogue():
        for record in await read_log(api.platform.broker.bootstrap, name):
            assert PLANTED_KEY.encode() not in (record.value or b""), name
    logs = sorted((api.folder / "services").glob("*.log"))
    assert len(logs) >= 5
    assert not [log.name for log in logs if PLANTED_KEY in log.read_text()]
