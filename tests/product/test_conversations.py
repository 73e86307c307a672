"""A runner is killed in the middle of conversations: they go on, nothing is done twice, readers miss and hear nothing twice.

`HANDRAIL_KILLS` is how often; fifty is what the promise is stated for, CI takes fewer. The seed is printed.
"""

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
from support.effects import load_effects

from product.conftest import Api, agent

Json = dict[str, Any]
KILLS = int(os.environ.get("HANDRAIL_KILLS", "5"))
FIRST = " ".join(f"looking{number}" for number in range(25))
LAST = " ".join(f"booked{number}" for number in range(40))


def calling(tool: str, **arguments: Any) -> Json:
    return {"tool_calls": [{"name": tool, "arguments": arguments}], "chunk_seconds": 0.02}


async def converse(api: Api, name: str, *replies: Json, **config: Any) -> str:
    await api.put(f"/agents/{name}", {"kind": "llm", "config": {"model": f"offline:{name}", **config}})
    async with httpx2.AsyncClient() as client:
        url = f"{api.platform.model_url}/scripts/{name}?by=conversation"
        (await client.post(url, json=list(replies))).raise_for_status()
    return await api.workflow(agent("talk", does=name, retry={"max_attempts": 30, "backoff_seconds": 0.1}))


async def frames(api: Api, execution_id: str, last: str = "") -> AsyncIterator[tuple[str, str, Json]]:
    """Id, event and data, to the stream's end."""
    headers = {"Last-Event-ID": last} if last else {}
    url = f"/executions/{execution_id}/stream"
    async with api.client.stream("GET", url, headers=headers, timeout=60) as response:
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                yield fields.get("id", ""), fields["event"], orjson.loads(fields["data"])
                fields = {}


async def words(api: Api, execution_id: str) -> dict[int, list[tuple[int, str]]]:
    """What a reader heard, turn by turn."""
    heard: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    async for _, event, data in frames(api, execution_id):
        if event == "delta":
            heard[data["turn"]].append((data["at"], data["content"]))
    return dict(heard)


async def kill_the_runner(api: Api, after: float) -> None:
    await asyncio.sleep(after)
    api.platform.cluster.kill("agent-runner")
    await api.platform.cluster.restart("agent-runner")


def calls_of(api: Api, tool: str, detail: str) -> Counter[str]:
    """How often, by key."""
    effects = load_effects(api.platform.effects)
    return Counter(effect.key for effect in effects if effect.agent == tool and effect.step_id == detail)


async def test_killed_at_random_moments_conversations_go_on_where_they_stood(api: Api) -> None:
    seed = int(os.environ.get("HANDRAIL_SEED", random.SystemRandom().randrange(10**6)))
    print(f"HANDRAIL_SEED={seed}")
    moments = random.Random(seed)
    for kill in range(KILLS):
        rooms = [f"{seed}-{kill}-{number}" for number in range(2)]
        workflow_id = await converse(
            api,
            f"llm-booker-{kill}",
            {"text": FIRST, **calling("book", room=rooms[0])},
            calling("book", room=rooms[1]),
            {"text": LAST, "chunk_seconds": 0.02},
            tools=["book"],
        )
        started = [await api.start(workflow_id) for _ in range(2)]
        readers = [asyncio.create_task(words(api, execution_id)) for execution_id in started]
        await kill_the_runner(api, moments.uniform(0, 1.2))
        for execution_id, reader in zip(started, readers, strict=True):
            found = await api.ended(execution_id)
            assert (found["status"], found["result"]) == ("completed", LAST), (kill, found["error"])
            heard = await reader
            for turn, text in ((0, FIRST), (2, LAST)):
                assert "".join(content for _, content in heard[turn]) == text, (kill, turn, heard[turn])
                assert [at for at, _ in heard[turn]] == sorted(at for at, _ in heard[turn])
            calls = (await api.get(f"/executions/{execution_id}/model-calls"))["items"]
            assert len(calls) >= 3
        for room in rooms:
            assert len(calls_of(api, "book", room)) == len(started), "one effect for each execution, by its key"


async def test_a_reader_who_leaves_and_comes_back_hears_the_words_in_between(api: Api) -> None:
    text = " ".join(f"word{number}" for number in range(120))
    workflow_id = await converse(api, "llm-long", {"text": text, "chunk_seconds": 0.02})
    execution_id = await api.start(workflow_id)
    heard, last, ended = "", "", False
    while not ended:
        taken = 0
        async for frame_id, event, data in frames(api, execution_id, last):
            last = frame_id or last
            heard += data["content"] if event == "delta" else ""
            taken += event == "delta"
            ended = event == "complete"
            if taken == 7:
                break
    assert heard == text


async def test_what_must_not_be_called_twice_is_called_once_or_a_person_settles_it(api: Api) -> None:
    amounts = [random.SystemRandom().randrange(10**6, 10**9) for _ in range(max(2, KILLS // 4))]
    for number, amount in enumerate(amounts):
        workflow_id = await converse(
            api, f"llm-charger-{number}", calling("charge", amount=amount), {"text": "Charged."}, tools=["charge"]
        )
        execution_id = await api.start(workflow_id)
        await kill_the_runner(api, 0.02 + 0.1 * random.random())
        found = await api.until(execution_id, lambda found: found["status"] in ("completed", "waiting", "failed"))
        if found["status"] == "waiting":
            [step] = found["steps"]
            assert step["error"]["code"] == "OUTCOME_UNKNOWN"
            assert "must not happen twice" in step["error"]["message"]
            await api.post(f"/executions/{execution_id}/retry", {"data": "it was charged"})
            found = await api.ended(execution_id)
        assert (found["status"], found["result"]) == ("completed", "Charged.")
        assert sum(calls_of(api, "charge", str(amount)).values()) <= 1


@pytest.mark.parametrize("attempts", [2])
async def test_a_later_attempt_does_not_repeat_what_the_first_has_done(api: Api, attempts: int) -> None:
    room = f"retried-{random.SystemRandom().randrange(10**9)}"
    workflow_id = await converse(api, "llm-retried", calling("book", room=room), {"status": 503}, tools=["book"])
    execution_id = await api.start(workflow_id)
    await api.until(execution_id, lambda found: found["steps"][0]["attempt"] >= attempts)
    async with httpx2.AsyncClient() as client:
        url = f"{api.platform.model_url}/scripts/llm-retried?by=conversation"
        (await client.post(url, json=[{"text": "not me"}, {"text": "done"}])).raise_for_status()
    assert (await api.ended(execution_id))["result"] == "done"
    assert sum(calls_of(api, "book", room).values()) == 1
    told = [event["type"] for event in await api.events(execution_id)]
    assert told.count("step.advanced") == 2
