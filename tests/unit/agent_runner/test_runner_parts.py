"""The parts around the runner's loop: registrations, scripts, threads, the road of answers, header names."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.record import default_records
from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.agents.python import make_python_agent
from handrail_agent_runner.agents.scripted import make_scripted_agent
from handrail_agent_runner.answered import Answered
from handrail_agent_runner.answers import MOST_BYTES, Answers
from handrail_agent_runner.ownership import Ownership
from handrail_agent_runner.registry import AgentsFileError, Registry, agents_of_file
from handrail_runtime import tolerant
from handrail_runtime.settings import Settings
from handrail_runtime.writer import Parcel
from unit.agent_runner import functions
from unit.agent_runner.builders import SETTINGS, function, registered, request
from unit.gateway.builders import until

nothing = Progress(lambda kind, data: None)


async def test_plain_functions_run_in_a_thread_of_their_own() -> None:
    output = await make_python_agent(function("in_thread", "in_thread"), SETTINGS).execute(request(), nothing)
    assert output == {"thread": "agent-echo", "input": {"x": 1}}


async def test_hanging_threads_can_not_pile_up() -> None:
    agent = make_python_agent(function("hangs", "hangs"), Settings(runner_concurrency=2))
    functions.release.clear()
    functions.hanging.clear()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(agent.execute(request(), nothing), 0.02)
    assert len(functions.hanging) == 2
    functions.release.set()
    await agent.execute(request(), nothing)


@pytest.mark.parametrize("entry", ["no.such.module:f", "unit.agent_runner.functions:missing", "nonsense", ""])
def test_an_entry_point_that_is_not_there_is_named(entry: str) -> None:
    with pytest.raises(AgentFailure, match=r"entry point .* can't be loaded"):
        make_python_agent(registered("a", entry_point=entry), SETTINGS)


async def test_a_script_fails_first_and_answers_then_always_the_same_way() -> None:
    told: list[Any] = []
    config = {"output": {"said": "{{input.x}}"}, "deltas": ["one", "x={{input.x}}"], "fail_attempts": 1}
    agent = make_scripted_agent(registered("s", "scripted", **config), SETTINGS)
    with pytest.raises(AgentFailure, match="as scripted"):
        await agent.execute(request(attempt=1), nothing)
    output = await agent.execute(request(attempt=2), Progress(lambda kind, data: told.append((kind, data["content"]))))
    assert output == {"said": 1}
    assert told == [("delta", "one"), ("delta", "x=1")]


def test_the_latest_registration_counts_and_a_removed_agent_is_gone() -> None:
    registry = Registry(SETTINGS)
    registry.add(function("a", "echo"))
    first = registry.find(request(agent="a"))
    assert registry.find(request(agent="a")) is first
    registry.add(function("a", "large"))
    assert registry.find(request(agent="a")) is not first
    registry.add(function("a", "echo").model_copy(update={"removed": True}))
    assert registry.find(request(agent="a")) is None


def test_a_registration_that_no_agent_can_be_made_of_is_an_answer_not_a_crash() -> None:
    registry = Registry(SETTINGS)
    registry.add(registered("s", "scripted", delay_ms="soon"))
    with pytest.raises(AgentFailure, match="agent s can't be made"):
        registry.find(request(agent="s"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "can't be read"),
        ("{}", "not a list"),
        ("[1]", "entry 0 .* is no object"),
        ('[{"agent": "a", "kind": "http"}, {"kind": "http"}]', "entry 1 .*: agent: "),
    ],
)
def test_a_wrong_agents_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "agents.json"
    path.write_text(text)
    with pytest.raises(AgentsFileError, match=says):
        agents_of_file(path, 0)


def test_the_same_entry_has_the_same_id_and_another_one_another(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    path.write_text('[{"agent": "a", "kind": "http"}, {"agent": "a", "kind": "http", "config": {"url": "http://x"}}]')
    first, second = agents_of_file(path, 0)
    assert first.event_id == agents_of_file(path, 99)[0].event_id != second.event_id


def test_old_answers_are_forgotten_and_foreign_ones_do_not_end_what_runs_here() -> None:
    answered = Answered(capacity=2)
    finished: list[str] = []
    assert answered.begin("mine")
    answered.once_answered("mine", lambda: finished.append("copy"))
    answered.learn("mine")
    assert finished == []
    answered.answer("mine")
    assert finished == ["copy"]
    for key in ("b", "c"):
        answered.learn(key)
    assert not answered.begin("c")
    assert answered.begin("mine")


class FakeWriter:
    """Refuses while `broken`; keeps what it took."""

    def __init__(self, broken: bool) -> None:
        self.broken, self.taken = broken, list[bytes]()

    def write(self, parcels: list[Parcel]) -> asyncio.Future[int]:
        future = asyncio.get_running_loop().create_future()
        if self.broken:
            future.set_exception(OSError("connection reset"))
        else:
            self.taken += [parcel.value for parcel in parcels]
            future.set_result(0)
        return future

    async def stop(self) -> None:
        """Nothing to close."""


async def test_answers_are_kept_over_broken_writers_and_arrive_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    writers = [FakeWriter(True), FakeWriter(True), FakeWriter(False)]
    started = iter(writers)

    async def start(*_: Any) -> Any:
        return next(started)

    monkeypatch.setattr("handrail_runtime.writer.Writer.start", start)
    answers, arrived = Answers(SETTINGS), list[int]()
    await answers.start()
    for n in range(5):
        answers.publish([Parcel("t", "k", b"%d" % n, [], n % 2)], lambda n=n: arrived.append(n))  # type: ignore[misc]
    await until(lambda: len(arrived) == 5)
    assert sorted(writers[2].taken) == [b"0", b"1", b"2", b"3", b"4"]
    assert sorted(arrived) == [0, 1, 2, 3, 4]
    assert (answers.unconfirmed, answers.full) == (0, False)
    await answers.close()


async def test_too_many_bytes_that_can_not_leave_stop_new_work() -> None:
    answers = Answers(SETTINGS)
    answers.publish([Parcel("t", "k", b"x" * MOST_BYTES, [], 0)], lambda: None)
    assert not answers.full
    answers.publish([Parcel("t", "k", b"x", [], 0)], lambda: None)
    assert answers.full


async def test_a_partition_that_was_lost_in_between_is_remembered() -> None:
    let_go = 0

    async def count() -> None:
        nonlocal let_go
        let_go += 1

    ownership = Ownership(SETTINGS, count)
    await ownership.on_partitions_revoked([])
    for partitions in ({1, 2}, {2}, {1, 2}):
        await ownership.on_partitions_assigned([TopicPartition("t", p) for p in partitions])
        await ownership.on_partitions_revoked([TopicPartition("t", p) for p in partitions])
    assert ownership.assigned == {1, 2}
    assert let_go == 3
    assert (ownership.take_lost(), ownership.take_lost()) == ({1}, set())


class Foreign(str):
    """A header name whose bytes are not UTF-8."""

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


def batch(first: int, *names: str) -> bytes:
    builder: Any = default_records._DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, -1, 1 << 20)
    for n, name in enumerate(names):
        builder.append(n, None, b"k", b"%d" % (first + n), [(name, b"v")])
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def test_foreign_header_names_cost_nobody_a_record() -> None:
    raw = batch(0, "a", "b") + batch(2, "c", Foreign("zz"), "d") + batch(5, "e") + batch(6, "cut")[:-3]
    records: Any = tolerant.TolerantPartitionRecords(
        TopicPartition("t", 0), tolerant.KeptRecords(raw), [], 1, None, None, False, 1
    )
    assert [(r.offset, r.value, r.headers[0][0]) for r in records] == [
        (1, b"1", "b"),
        (2, b"2", "c"),
        (3, b"3", "\\xff\\xfe"),
        (4, b"4", "d"),
        (5, b"5", "e"),
    ]
    assert records.next_fetch_offset == 6
