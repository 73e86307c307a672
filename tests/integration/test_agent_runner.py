"""The agent-runner over a real broker: at least once, never silently, never more often than it must."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka import TopicPartition
from handrail.embedded.process import free_port
from handrail_contracts import topics
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import Stamp
from handrail_runtime import bus
from integration.runner_world import COMMANDS, World, world
from support.broker_proxy import BrokerProxy, CutConnection
from support.kafka_wire import Api
from support.processes import Process
from unit.gateway.builders import until

pytestmark = pytest.mark.integration
EVERYWHERE = range(topics.EXECUTION_PARTITIONS)
RUNNER = "agent-runner"


async def committed(w: World) -> dict[int, int]:
    async with w.positions() as reader:
        return {tp.partition: await reader.committed(tp) or 0 for tp in COMMANDS}


async def ends(w: World) -> dict[int, int]:
    return {tp.partition: end for tp, end in (await bus.end_offsets(w.reader, COMMANDS)).items()}


async def readiness(w: World, number: int = 0) -> dict[str, Any]:
    async with httpx2.AsyncClient() as client:
        answer: dict[str, Any] = (await client.get(f"{w.runners.url(RUNNER, number)}/readyz")).json()
    return answer


async def test_every_command_is_answered_once_where_its_journal_is_and_then_committed(
    broker: str, tmp_path: Path
) -> None:
    async with world(broker, tmp_path) as w:
        runs = [await w.request(f"{agent}{n}", agent) for n in range(40) for agent in ("echo", "traced", "script")]
        await w.answered(*runs)
        assert await w.runners.get(RUNNER).shut_down() == 0
        await w.quiet()
        assert {len(w.answers[run]) for run in runs} == {1}
        assert {w.answers[run][0]["status"] for run in runs} == {"completed"}
        for run in runs:
            key = f"ex-{run}"
            assert w.places[run] == (partition_of(key, topics.EXECUTION_PARTITIONS), key.encode())
        assert await committed(w) == await ends(w)


async def test_what_a_step_tells_on_its_way_comes_in_order(broker: str, tmp_path: Path) -> None:
    async with world(broker, tmp_path) as w:
        run = await w.request("talks", "script")
        await w.answered(run)
        place = TopicPartition(topics.STEP_PROGRESSED, w.places[run][0])
        told = [body for body in await w.bodies(place) if body["run_id"] == run]
        assert [(body["index"], body["data"]) for body in told] == [(0, {"content": "a"}), (1, {"content": "b"})]


async def test_bad_records_are_set_aside_and_stop_nothing(broker: str, tmp_path: Path) -> None:
    async with world(broker, tmp_path) as w:
        stamp = [Stamp(w.owner, 5).header()]
        key = w.run("good")
        bad = {
            "MALFORMED_JSON": await w.send(key, b"{" * 900_000, stamp),
            "UNKNOWN_EVENT_TYPE": await w.send(key, b'{"event_type": "step.danced"}', stamp),
            "UNSUPPORTED_VERSION": await w.send(key, b'{"event_type": "step.requested", "schema_version": 7}', stamp),
            "BAD_STAMP": await w.send(key, b"{}", [("hr-command", None)]),
            "INVALID_MESSAGE": await w.send_with_foreign_header(key, b'{"event_type": "step.requested"}'),
        }
        run = await w.request("good")
        await w.answered(run)
        for code, place in bad.items():
            found = {(letter["partition"], letter["offset"]): letter for letter in await w.letters(code)}
            assert place in found, f"no dead letter {code} of {place}"
        assert found[bad["INVALID_MESSAGE"]]["headers"][0][0] == "\\xff\\xfe"


async def test_commands_of_fenced_epochs_are_dead_wherever_the_fence_was_read(broker: str, tmp_path: Path) -> None:
    async with world(broker, tmp_path) as w:
        await w.fence(5, EVERYWHERE)
        behind = [await w.request(f"behind{n}", "traced", epoch=5) for n in range(12)]
        above = [await w.request(f"above{n}", "traced", epoch=6) for n in range(12)]
        await w.answered(*above)
        w.runners.kill(RUNNER)
        await w.fence_for_late_comers(6)  # none in the partitions: only who reads the topic of fences knows
        late = [await w.request(f"late{n}", "traced", epoch=6) for n in range(12)]
        newest = [await w.request(f"newest{n}", "traced", epoch=7) for n in range(12)]
        await w.runners.restart(RUNNER)
        await w.answered(*newest)
        assert not set(behind + late) & (set(w.answers) | set(w.effects))


async def test_after_a_kill_only_what_ran_is_run_again(broker: str, tmp_path: Path) -> None:
    async with world(broker, tmp_path) as w:
        slow = [await w.request(f"slow{n}", "traced", input={"run": w.run(f"slow{n}"), "seconds": 2}) for n in range(6)]
        quick = [await w.request(f"quick{n}", "traced") for n in range(60)]
        await w.answered(*quick)
        await w.effects_begun(*slow)
        w.runners.kill(RUNNER)
        assert not set(slow) & set(w.answers)
        await w.runners.restart(RUNNER)
        await w.answered(*slow)
        again = [await w.request(f"quick{n}", "traced") for n in range(60)]
        last = await w.request("last")
        await w.answered(last)
        await w.quiet()
        assert {w.effects[run] for run in slow} == {2}
        assert {w.effects[run] for run in again} == {1}


async def test_sigterm_lets_what_runs_finish(broker: str, tmp_path: Path) -> None:
    async with world(broker, tmp_path) as w:
        slow = [await w.request(n, "traced", input={"run": w.run(n), "seconds": 1}) for n in range(6)]
        await w.effects_begun(*slow)
        runner = w.runners.get(RUNNER)
        runner.terminate()
        assert await runner.wait() == 0
        await w.answered(*slow)
        assert await committed(w) == await ends(w)
        await w.runners.restart(RUNNER)
        last = await w.request("last")
        await w.answered(last)
        assert {w.effects[run] for run in slow} == {1}


async def test_runners_come_and_go_and_no_step_runs_twice(broker: str, tmp_path: Path) -> None:
    async with world(broker, tmp_path) as w:
        runs: list[str] = []

        async def keep_asking() -> None:
            while True:
                n = len(runs)
                runs.append(await w.request(n, "traced", input={"run": w.run(n), "seconds": 0.5}))
                await asyncio.sleep(0.02)

        asking = asyncio.create_task(keep_asking())
        await w.runners.add(RUNNER)
        await until(lambda: len(runs) > 100)
        assert await w.runners.remove(RUNNER, 0) == 0
        so_far = len(runs)
        await until(lambda: len(runs) > so_far + 50)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await w.answered(*runs)
        await w.quiet()
        assert {w.effects[run] for run in runs} == {1}
        assert {len(w.answers[run]) for run in runs} == {1}


async def test_answers_whose_sending_failed_are_sent_again_without_running_the_step_again(
    broker: str, tmp_path: Path
) -> None:
    async with BrokerProxy(broker) as proxy, world(broker, tmp_path, proxy.address) as w:
        cut = proxy.rule(
            Api.PRODUCE, "response", CutConnection(), where=lambda f: f.writes_to(topics.AGENT_EXECUTED), times=3
        )
        runs = [await w.request(n, "traced") for n in range(30)]
        await cut.hit(3)
        await w.answered(*runs)
        last = await w.request("last")
        await w.answered(last)
        assert {w.effects[run] for run in runs} == {1}
        assert {body["event_id"] for run in runs for body in w.answers[run]} == {
            w.answers[run][0]["event_id"] for run in runs
        }


async def test_a_partition_whose_position_is_gone_stands_still_loudly_and_the_others_go_on(
    broker: str, tmp_path: Path
) -> None:
    async with world(broker, tmp_path) as w:
        await w.runners.get(RUNNER).shut_down()
        broken = partition_of(w.run("lost"), topics.EXECUTION_PARTITIONS)
        place, before = TopicPartition(topics.STEP_REQUESTED, broken), await ends(w)
        async with w.positions() as reader:
            await reader.commit({place: before[broken] + 1_000})
        w.runners.get(RUNNER).start()
        elsewhere = next(n for n in range(100) if partition_of(w.run(n), topics.EXECUTION_PARTITIONS) != broken)
        await w.request("lost")
        await w.answered(await w.request(elsewhere))
        state = await readiness(w)
        assert not state["ready"]
        assert f"partition {broken} stands still" in state["detail"]
        assert "Reset the offsets" in state["detail"]
        assert w.run("lost") not in w.answers

        await w.runners.get(RUNNER).shut_down()
        async with w.positions() as reader:
            await reader.commit({place: before[broken]})
        await w.runners.restart(RUNNER)
        await w.answered(w.run("lost"))


async def test_concurrency_is_bounded(broker: str, tmp_path: Path) -> None:
    async with world(broker, tmp_path, HANDRAIL_RUNNER_CONCURRENCY="3") as w:
        slow = [await w.request(n, "traced", input={"run": w.run(n), "seconds": 2}) for n in range(12)]
        await until(lambda: len(w.effects) >= 3)
        await asyncio.sleep(0.3)
        assert len(w.effects) == 3
        await w.answered(*slow)
        assert {w.effects[run] for run in slow} == {1}


async def test_an_agents_file_that_is_wrong_is_one_clear_line(broker: str, tmp_path: Path) -> None:
    agents = tmp_path / "agents.json"
    agents.write_text('[{"agent": "a", "kind": "magic"}]')
    env = {"HANDRAIL_BROKERS": broker, "HANDRAIL_PORT": str(free_port()), "HANDRAIL_AGENTS_FILE": str(agents)}
    command = (sys.executable, "-m", "handrail_agent_runner")
    runner = Process(RUNNER, command, tmp_path / "log", env).start()
    assert await runner.wait() == 1
    assert f"entry 0 of the agents file {agents}: kind: " in runner.tail(1)
