"""Suggestions over HTTP and SMTP: proposed by agents, corrected and decided by people, carried out once."""

import asyncio
import random
from collections import Counter
from typing import Any

import httpx2
import pytest
from handrail.demo.support import SupportStory
from handrail.tokens import mint

from product.conftest import Api, agent, step
from product.test_conversations import calls_of
from product.test_language_models import register, script

Json = dict[str, Any]
RULES = {"actions": {"send": "email", "close": "none"}}


def suggesting(step_id: str, *following: str, does: str, rules: Any = None, **options: Any) -> Json:
    step = agent(step_id, *following, does=does, **options)
    step["parameters"]["suggestion"] = {**RULES, **(rules or {})}
    return step


def drafted(recipient: str, **more: Any) -> Json:
    data = {"recipient": recipient, "subject": "Re: help", "body": "Hello!"}
    arguments = {"action": "send", "confidence": 0.9, "reasoning": "easy", "suggested_data": data, **more}
    return {"tool_calls": [{"name": "final_answer", "arguments": arguments}]}


async def pending(api: Api, execution_id: str, revision: int = 1) -> Json:
    async with asyncio.timeout(20):
        while True:
            items = (await api.get("/suggestions", execution_id=execution_id, status="pending"))["items"]
            for item in items:
                if item["revision"] == revision:
                    return dict(item)
            await asyncio.sleep(0.03)


async def mails(api: Api, recipient: str) -> list[Json]:
    async with httpx2.AsyncClient() as client:
        return list((await client.get(f"{api.platform.mail_url}/mails", params={"to": recipient})).json())


async def test_the_support_story_from_the_customers_mail_to_the_sent_answer(api: Api) -> None:
    token = mint(api.folder / "auth", user="sarah@example.com", organization="acme", project="p", ttl=3600)
    said: list[str] = []
    story = SupportStory(
        api.platform.cluster.url("gateway"), api.platform.mail_url, api.platform.smtp_url, token, said.append
    )
    told = await asyncio.to_thread(story.run)
    execution, suggestion, mail = told["execution"], told["suggestion"], told["mail"]
    assert [entry["revision"] for entry in suggestion["revisions"]] == [1, 2]
    [change] = suggestion["revisions"][1]["changes"]
    assert (change["path"], change["kind"]) == ("body", "changed")
    assert "help article" in mail["body"] and "help article" not in change["before"]
    assert [entry["author_type"] for entry in suggestion["comments"]] == ["human", "agent"]
    assert mail["subject"].startswith("Re: Account login issues")
    assert mail["in_reply_to"]
    assert suggestion["result"]["type"] == "email_sent"
    assert execution["result"] == {
        "category": "technical",
        "recipient": "jane.smith@example.com",
        "delivery_id": mail["message_id"],
        "approved_by": "sarah@example.com",
        "revision": 2,
        "outcome": "close_ticket_with_solution",
    }
    types = [event["type"] for event in await api.events(execution["id"])]
    for expected in ("suggestion.made", "suggestion.sent_back", "suggestion.approved", "action.executed"):
        assert expected in types
    assert any("+ You find more in our help article" in line for line in said)


async def test_what_a_person_corrects_is_what_is_sent(api: Api) -> None:
    name = await register(api, "llm-corrected")
    await script(api, name, drafted("corrected@example.com"))
    execution_id = await api.start(await api.workflow(suggesting("draft", does=name)))
    found = await pending(api, execution_id)
    data = {**found["suggested_data"], "body": "Dear customer!"}
    await api.post(f"/suggestions/{found['id']}/approve", {"suggested_data": data}, 200)
    execution = await api.ended(execution_id)
    assert execution["result"]["result"]["details"]["status"] == "sent"
    [mail] = await mails(api, "corrected@example.com")
    assert mail["body"] == "Dear customer!"
    shown = await api.get(f"/suggestions/{found['id']}")
    assert (shown["decided_data"]["body"], shown["status"]) == ("Dear customer!", "approved")


async def test_rejected_nothing_is_sent_and_a_second_decision_does_not_count(api: Api) -> None:
    name = await register(api, "llm-rejected")
    await script(api, name, drafted("rejected@example.com"))
    execution_id = await api.start(await api.workflow(suggesting("draft", does=name)))
    found = await pending(api, execution_id)
    await api.post(f"/suggestions/{found['id']}/reject", {"notes": "not like this"}, 200)
    execution = await api.ended(execution_id)
    assert execution["error"]["code"] == "APPROVAL_REJECTED"
    told = await api.post(f"/suggestions/{found['id']}/approve", {}, 409)
    assert told["code"] == "ALREADY_DECIDED"
    assert await mails(api, "rejected@example.com") == []


async def test_policy_needs_nobody_from_its_confidence_on(api: Api) -> None:
    name = await register(api, "llm-sure")
    await script(api, name, drafted("policy@example.com", confidence=0.97))
    rules = {"auto_approve": {"send": 0.95}}
    execution = await api.run(suggesting("draft", does=name, rules=rules))
    assert (execution["status"], execution["result"]["decided_by"]) == ("completed", "policy")
    assert len(await mails(api, "policy@example.com")) == 1


async def test_an_action_that_the_definition_does_not_allow_never_reaches_a_person(api: Api) -> None:
    name = await register(api, "llm-injected")
    arguments = {"action": "wire_money", "confidence": 1, "suggested_data": {"amount": 10**6}}
    await script(api, name, {"tool_calls": [{"name": "final_answer", "arguments": arguments}]})
    execution = await api.run(suggesting("draft", does=name))
    assert execution["status"] == "failed"
    assert "'wire_money' is not one of" in execution["error"]["message"]
    assert (await api.get("/suggestions", execution_id=execution["id"]))["items"] == []


async def test_a_mail_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(api: Api) -> None:
    name = await register(api, "llm-busy")
    retry = {"max_attempts": 3, "backoff_seconds": 0.05}
    for refusals, status in ((["451 try later"], "completed"), (["554 no spam here"], "failed")):
        await script(api, name, drafted(f"{status}@example.com"))
        async with httpx2.AsyncClient() as client:
            (await client.put(f"{api.platform.mail_url}/refusals", json=refusals)).raise_for_status()
        execution_id = await api.start(await api.workflow(suggesting("draft", does=name, retry=retry)))
        await api.post(f"/suggestions/{(await pending(api, execution_id))['id']}/approve", {}, 200)
        execution = await api.ended(execution_id)
        assert execution["status"] == status
        assert len(await mails(api, f"{status}@example.com")) == (status == "completed")
    assert "554" in execution["error"]["message"]


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1, 0.3])
async def test_whatever_crashes_an_approved_mail_is_sent_once(api: Api, moment: float) -> None:
    name, recipient = await register(api, "llm-crashing"), f"crash-{moment}@example.com"
    await script(api, name, drafted(recipient))
    execution_id = await api.start(await api.workflow(suggesting("draft", does=name)))
    found = await pending(api, execution_id)
    approving = asyncio.create_task(api.post(f"/suggestions/{found['id']}/approve", {}, 200))
    await asyncio.sleep(moment)
    api.platform.cluster.kill("agent-runner")
    await asyncio.gather(approving, api.platform.cluster.restart("agent-runner"))
    execution = await api.until(execution_id, lambda found: found["status"] in ("completed", "waiting", "failed"))
    sent = Counter(mail["message_id"] for mail in await mails(api, recipient))
    if execution["status"] == "waiting":
        assert execution["steps"][0]["error"]["code"] == "OUTCOME_UNKNOWN"
        body = {"data": {"status": "sent"}} if sent else {}
        await api.post(f"/executions/{execution_id}/retry", body)
        execution = await api.ended(execution_id)
        sent = Counter(mail["message_id"] for mail in await mails(api, recipient))
    assert execution["status"] == "completed"
    assert list(sent.values()) == [1]


async def test_another_tenant_sees_and_decides_nothing(api: Api) -> None:
    name = await register(api, "llm-private")
    await script(api, name, drafted("private@example.com"))
    execution_id = await api.start(await api.workflow(suggesting("draft", does=name)))
    found = await pending(api, execution_id)
    async with api.as_tenant("other") as eve:
        assert (await eve.get("/suggestions"))["items"] == []
        await eve.get(f"/suggestions/{found['id']}", 404)
        for how in ("approve", "reject"):
            await eve.post(f"/suggestions/{found['id']}/{how}", {}, 404)
        await eve.post(f"/suggestions/{found['id']}/comments", {"text": "hi"}, 404)
    await api.post(f"/executions/{execution_id}/cancel", {"reason": "enough"})
    await api.ended(execution_id)
    assert (await api.get(f"/suggestions/{found['id']}"))["status"] in ("pending", "withdrawn")


async def test_a_tool_that_asks_first_is_called_once_a_person_allows_it_with_his_arguments(api: Api) -> None:
    wanted = random.SystemRandom().randrange(10**6, 10**9)
    name = await register(api, "llm-charges", tools=["charge"], ask_first=["charge"])
    await script(
        api,
        name,
        {"text": "She asked for it.", "tool_calls": [{"name": "charge", "arguments": {"amount": wanted}}]},
        {"text": "It is charged."},
    )
    execution_id = await api.start(await api.workflow(agent("talk", does=name)))
    found = await pending(api, execution_id)
    assert (found["action"], found["suggested_data"], found["reasoning"]) == (
        "charge", {"amount": wanted}, "She asked for it.",
    )  # fmt: skip
    assert sum(calls_of(api, "charge", str(wanted)).values()) == 0
    await api.post(f"/suggestions/{found['id']}/approve", {"suggested_data": {"amount": wanted + 1}}, 200)
    assert (await api.ended(execution_id))["result"] == "It is charged."
    assert sum(calls_of(api, "charge", str(wanted)).values()) == 0
    assert sum(calls_of(api, "charge", str(wanted + 1)).values()) == 1


async def test_a_model_hears_why_its_call_was_not_allowed(api: Api) -> None:
    amount = random.SystemRandom().randrange(10**6, 10**9)
    name = await register(api, "llm-refused", tools=["charge"], ask_first=["charge"])
    await script(
        api, name, {"tool_calls": [{"name": "charge", "arguments": {"amount": amount}}]}, {"text": "As you say."}
    )
    step = agent("talk", does=name)
    execution_id = await api.start(await api.workflow(step))
    found = await pending(api, execution_id)
    await api.post(f"/suggestions/{found['id']}/comments", {"text": "never"}, 201)
    assert (await api.ended(execution_id))["result"] == "As you say."
    assert sum(calls_of(api, "charge", str(amount)).values()) == 0
    async with httpx2.AsyncClient() as client:
        asked = (await client.get(f"{api.platform.model_url}/calls/{name}")).json()
    assert "says: never" in asked[-1]["messages"][-1]["content"]


async def test_a_step_that_calls_a_tool_may_ask_first(api: Api) -> None:
    amount = random.SystemRandom().randrange(10**6, 10**9)
    call = step("pay", "tool_call", parameters={"tool": "charge", "arguments": {"amount": amount}, "ask_first": True})
    execution_id = await api.start(await api.workflow(call))
    found = await pending(api, execution_id)
    await api.post(f"/suggestions/{found['id']}/approve", {}, 200)
    assert (await api.ended(execution_id))["result"] == f"charge {amount}: done"
    assert sum(calls_of(api, "charge", str(amount)).values()) == 1
