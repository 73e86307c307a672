"""Channels in pieces: positions, what a record changes, the upgrade, the pipeline, and one client of it."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition
from handrail_contracts.topics import AGENT_REGISTERED, APPROVAL_EVENTS, EXECUTION_EVENTS, RUNNER_STATUS
from handrail_gateway.channels.changes import Beats, Changes, Gate, Touched, changes_of
from handrail_gateway.channels.client import Client
from handrail_gateway.channels.document import document
from handrail_gateway.channels.hub import MOST_CHANGES, Hub, Joining
from handrail_gateway.channels.messages import CHANNELS, Message, Plan, workflow_update
from handrail_gateway.channels.outbox import QUEUE_BYTES, Item, Outbox, item
from handrail_gateway.channels.positions import decode_position, encode_position
from handrail_gateway.channels.upgrade import offered, origin_allowed, with_credentials
from handrail_gateway.identity.caller import Caller
from handrail_gateway.live import PROJECTED, Offsets
from handrail_gateway.problems import unavailable
from hypothesis import given
from hypothesis import strategies as st
from unit.gateway.builders import until
from websockets.frames import Frame
from websockets.streams import StreamReader

JOURNAL = TopicPartition(EXECUTION_EVENTS, 0)
ACME, OTHER = ("acme", "apollo"), ("other", "o")


def journaled(execution: str, *events: dict[str, Any], topic: str = EXECUTION_EVENTS) -> Any:
    body = {"execution_id": execution, "at": "2026-02-09T19:20:00Z", "events": events}
    return SimpleNamespace(topic=topic, key=execution.encode(), value=orjson.dumps(body), offset=0)


def began(execution: str, tenant: tuple[str, str] = ACME) -> Any:
    organization, project = tenant
    event = {"type": "execution.started", "organization_id": organization, "project_id": project}
    return journaled(execution, event, {"type": "step.started", "step_id": "a"})


class TestPositions:
    @given(st.lists(st.integers(0, 2**62), min_size=len(PROJECTED), max_size=len(PROJECTED)))
    def test_a_position_is_read_as_it_was_written(self, offsets: list[int]) -> None:
        position = dict(zip(PROJECTED, offsets, strict=True))
        assert decode_position(encode_position(position)) == position

    @given(st.text())
    def test_any_other_text_is_none(self, text: str) -> None:
        assert decode_position(text) is None or encode_position(decode_position(text) or {}) == text

    @pytest.mark.parametrize("text", ["", "AA", "gA", "A" * 36, "_" * 400, "A" * 401, "ä"])
    def test_what_is_cut_or_longer_is_none(self, text: str) -> None:
        assert decode_position(text) is None


class TestChanges:
    def test_a_record_names_the_execution_its_steps_and_its_tenant(self) -> None:
        record = journaled(
            "e",
            {"type": "execution.started", "organization_id": "acme", "project_id": "apollo"},
            {"type": "step.started", "step_id": "a"},
            {"type": "steps.skipped", "step_ids": ["b", "c"]},
        )
        changes, owner = changes_of(EXECUTION_EVENTS, record.value)
        assert changes.executions == {"e": Touched("2026-02-09T19:20:00Z", {"a", "b", "c"})}
        assert owner == ACME

    def test_what_nobody_sees_changes_nothing(self) -> None:
        quiet = journaled(
            "e", {"type": "step.advanced", "step_id": "a"}, {"type": "step.models_called", "step_id": "a"}
        )
        assert not changes_of(EXECUTION_EVENTS, quiet.value)[0]
        refused = journaled("e", {"type": "approval.refused", "approval_id": "g"})
        assert not changes_of(APPROVAL_EVENTS, refused.value)[0]

    def test_a_suggestion_stays_new_whatever_follows_it(self) -> None:
        opened = {"type": "approval.opened", "approval_id": "g", "suggestion": {}}
        closed = journaled("e", {"type": "approval.closed", "approval_id": "g"}, topic=APPROVAL_EVENTS)
        changes = Changes()
        changes.merge(changes_of(APPROVAL_EVENTS, journaled("e", opened).value)[0])
        changes.merge(changes_of(APPROVAL_EVENTS, closed.value)[0])
        assert changes.gates == {"g": Gate("e", "2026-02-09T19:20:00Z", True)}

    def test_merged_changes_count_each_object_once_and_leave_the_parts_alone(self) -> None:
        one, two = (Changes({"e": Touched("1", {"a"})}), Changes({"e": Touched("2", {"a", "b"})}, agents={"x": "2"}))
        whole = Changes()
        for part in (one, two, two):
            whole.merge(part)
        assert (whole.executions["e"], whole.size) == (Touched("2", {"a", "b"}), 4)
        assert one.executions["e"].steps == {"a"}

    def test_a_beat_is_news_only_where_it_says_something_new(self) -> None:
        beats = Beats()

        def beat(*agents: dict[str, Any], **more: Any) -> set[str]:
            body = {"runner_id": "r", "occurred_at": "now", "agents": agents, "chosen": [], **more}
            return set(beats.news(orjson.dumps(body)).agents)

        broken = {"agent": "x", "error": "no such model"}
        assert beat() == set()
        assert beat(broken) == {"x"}
        assert beat(broken) == set()
        assert beat() == {"x"}
        assert beat(broken) == {"x"}
        assert beat(stopped=True) == {"x"}


class TestShapes:
    def test_progress_is_what_is_over_of_what_there_is_to_do(self) -> None:
        row = {"workflow_id": "w", "execution_id": "e", "status": "running"}
        plan = Plan(("a", "b", "c"), ("x", "y", "z"))
        steps: list[dict[str, Any]] = [
            {"agent": "x", "status": "completed"},
            {"agent": "y", "status": "retrying"},
            {"agent": None, "status": "rewound"},
        ]
        told = orjson.loads(
            workflow_update(row, plan, steps, [{"agent": "z", "run_id": "r3"}], "now").on("workflows", "p")
        )
        assert told["data"]["progress"] == 33
        assert [(each["status"], each["current_task"]) for each in told["data"]["agents"]] == [
            ("idle", None), ("waiting", None), ("executing_task", "r3"),
        ]  # fmt: skip

    def test_only_the_last_message_of_several_names_the_place_behind_all(self) -> None:
        several = [Message("task_update", b'{"type":"task_update","data":%d' % number) for number in range(3)]
        made = item("tasks", several, "before", "end")
        assert made is not None and made.count == 3
        assert [each["position"] for each in unframed(made.frames)] == ["before", "before", "end"]
        assert item("tasks", [], "before", "end") is None


def unframed(data: bytes) -> list[Any]:
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while reader.buffer:
        parsing = Frame.parse(reader.read_exact, mask=False, max_size=None)
        try:
            next(parsing)
        except StopIteration as done:
            found.append(orjson.loads(done.value.data))
    return found


class TestUpgrade:
    HEADERS = ((b"host", b"handrail.example:8000"), (b"sec-websocket-protocol", b"handrail.v1, bearer.a.b-c_d"))

    def test_a_page_brings_its_token_and_tenant(self) -> None:
        found = with_credentials(self.HEADERS, b"organization_id=acme&project_id=&other=1")
        assert offered(self.HEADERS) == ["handrail.v1", "bearer.a.b-c_d"]
        assert [pair for pair in found if pair not in self.HEADERS] == [
            (b"authorization", b"Bearer a.b-c_d"),
            (b"x-elevaite-organizationid", b"acme"),
        ]

    def test_two_tokens_are_two(self) -> None:
        found = with_credentials((*self.HEADERS, (b"authorization", b"Bearer x")), b"")
        assert [value for name, value in found if name == b"authorization"] == [b"Bearer x", b"Bearer a.b-c_d"]

    @pytest.mark.parametrize(
        ("origins", "allowed"),
        [
            ([], True),
            (["http://handrail.example:8000"], True),
            (["https://Handrail.example:8000"], True),
            (["https://desk.example"], True),
            (["https://evil.example"], False),
            (["null"], False),
            (["http://handrail.example"], False),
            (["http://handrail.example:8000.evil.example"], False),
            (["https://desk.example", "https://desk.example"], False),
        ],
    )
    def test_a_page_has_to_be_of_here_or_named(self, origins: list[str], allowed: bool) -> None:
        headers = (*self.HEADERS, *((b"origin", origin.encode()) for origin in origins))
        assert origin_allowed(headers, ["https://desk.example"]) is allowed


def test_a_full_outbox_takes_nothing_more() -> None:
    box = Outbox()
    assert box.put(Item(b"x" * QUEUE_BYTES)), "one alone may be of any size"
    assert not box.put(Item(b"x"))
    assert box.take() is not None
    assert box.put(Item(b"x"))


def test_the_document_names_every_message_and_channel_and_refers_to_nothing_that_is_not_there() -> None:
    found = document("1")
    names = set(found["components"]["messages"])
    assert {"Subscribe", "WorkflowUpdate", "ChannelError"} <= names == set(found["channels"]["ws"]["messages"])
    assert set(found["channels"]["ws"]["x-subscriptions"]) == {*CHANNELS, "execution:{execution_id}"}
    told = {kind for several in found["channels"]["ws"]["x-subscriptions"].values() for kind in several}
    shown = found["components"]["schemas"]
    assert told >= {s["properties"]["type"]["const"] for s in shown.values() if "channel" in s.get("required", ()) and
                    "data" in s["required"] and "const" in s["properties"]["type"]}  # fmt: skip
    for reference in re.findall(r'"#/([^"]+)"', orjson.dumps(found).decode()):
        place = found
        for part in reference.split("/"):
            place = place[part]


# --- the pipeline ---------------------------------------------------------------------------------------------------------


class FakeTail:
    """What the tail is for the hub: offsets, which a test moves on."""

    def __init__(self) -> None:
        self.here: dict[TopicPartition, int] | None = dict.fromkeys(PROJECTED, 0)
        self.watcher: Any = None

    def offsets(self) -> Offsets | None:
        return None if self.here is None else dict(self.here)

    def watch(self, watcher: Any) -> None:
        self.watcher = watcher

    def tell(self, record: Any, place: TopicPartition = JOURNAL) -> None:
        assert self.here is not None
        record.offset = self.here[place]
        self.here[place] += 1
        self.watcher.take(place, record)


class FakeReading:
    """Owners and messages by rule; what was asked is kept."""

    def __init__(self) -> None:
        self.tenants: dict[str, tuple[str, str]] = {}
        self.asked: list[tuple[tuple[str, str], set[str]]] = []
        self.fails: deque[Exception] = deque()

    async def owners(self, executions: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        return {name: self.tenants[name] for name in executions if name in self.tenants}

    async def messages(self, tenant: tuple[str, str], changes: Changes, channels: set[str]) -> list[Message]:
        if self.fails:
            raise self.fails.popleft()
        self.asked.append((tenant, set(changes.executions)))
        return [
            Message("task_update", b'{"type":"task_update","data":"%s"' % name.encode()) for name in changes.executions
        ]


class FakePositions:
    def __init__(self) -> None:
        self.projected = asyncio.Event()
        self.projected.set()

    async def wait(self, targets: Mapping[Any, int], timeout: float = 5) -> bool:
        await self.projected.wait()
        return True


class FakeBacklog:
    def __init__(self) -> None:
        self.found: dict[str, Changes] = {}
        self.asked: list[set[str]] = []
        self.holds = asyncio.Event()
        self.holds.set()

    async def since(self, starts: Mapping[str, Offsets], end: Offsets) -> Mapping[str, Changes]:
        self.asked.append(set(starts))
        await self.holds.wait()
        return {key: self.found[key] for key in starts if key in self.found}

    async def close(self) -> None: ...


class Ear:
    """A member that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def joined(self, channel: str, position: str) -> None:
        self.heard.append(("joined", position))

    def lost(self, channel: str, position: str) -> None:
        self.heard.append(("lost", position))

    def hear(self, item: Item) -> None:
        self.heard += [(each["data"], each["position"]) for each in unframed(item.frames)]

    @property
    def what(self) -> list[str]:
        return [said for said, _ in self.heard]


class Pipeline:
    def __init__(self) -> None:
        self.tail, self.positions, self.reading, self.backlog = (
            FakeTail(),
            FakePositions(),
            FakeReading(),
            FakeBacklog(),
        )
        tail, positions, reading = self.of_any(self.tail), self.of_any(self.positions), self.of_any(self.reading)
        self.hub = Hub(tail, positions, reading, self.backlog)

    @staticmethod
    def of_any(found: Any) -> Any:
        return found

    def join(self, tenant: tuple[str, str] = ACME, after: str = "") -> Ear:
        ear = Ear()
        start = dict.fromkeys(PROJECTED, 0) if after else None
        self.hub.join(tenant, Joining(ear, "tasks", after, start))
        return ear

    async def joined(self, tenant: tuple[str, str] = ACME) -> Ear:
        ear = self.join(tenant)
        await until(lambda: "joined" in ear.what)
        return ear


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    yield Pipeline()


async def heard(ear: Ear, what: str) -> None:
    await until(lambda: what in ear.what)


class TestPipeline:
    async def test_what_changes_is_told_to_its_tenant_alone(self, pipeline: Pipeline) -> None:
        ours, theirs = await pipeline.joined(), await pipeline.joined(OTHER)
        pipeline.tail.tell(began("e1"))
        pipeline.tail.tell(began("e2", OTHER))
        pipeline.tail.tell(began("e3", ("nobody", "listens")))
        await heard(ours, "e1")
        await heard(theirs, "e2")
        assert ours.what == ["joined", "e1"] and theirs.what == ["joined", "e2"]
        assert {tenant for tenant, _ in pipeline.reading.asked} == {ACME, OTHER}
        await pipeline.hub.close()

    async def test_what_began_before_anybody_listened_is_looked_up(self, pipeline: Pipeline) -> None:
        pipeline.reading.tenants = {"old": ACME, "foreign": OTHER}
        ear = await pipeline.joined()
        for name in ("old", "foreign", "schedule/nightly"):
            pipeline.tail.tell(journaled(name, {"type": "step.completed", "step_id": "a"}))
        await heard(ear, "old")
        assert ear.what == ["joined", "old"]
        await pipeline.hub.close()

    async def test_nothing_is_told_before_the_lists_show_it(self, pipeline: Pipeline) -> None:
        ear = await pipeline.joined()
        pipeline.positions.projected.clear()
        pipeline.tail.tell(began("e"))
        await asyncio.sleep(0.05)
        assert ear.what == ["joined"]
        late = pipeline.join()
        pipeline.positions.projected.set()
        await heard(ear, "e")
        await heard(late, "joined")
        assert late.heard[0][1] >= ear.heard[-1][1]
        await pipeline.hub.close()

    async def test_who_comes_back_hears_what_was_missed_and_then_what_happens(self, pipeline: Pipeline) -> None:
        await pipeline.joined()
        pipeline.backlog.found = {"was": Changes({"missed": Touched("then")})}
        pipeline.backlog.holds.clear()
        back = pipeline.join(after="was")
        await until(lambda: pipeline.backlog.asked)
        pipeline.tail.tell(began("meanwhile"))
        await asyncio.sleep(0.05)
        assert back.what == []
        pipeline.backlog.holds.set()
        await heard(back, "meanwhile")
        pipeline.tail.tell(began("later"))
        await heard(back, "later")
        assert back.what == ["joined", "missed", "meanwhile", "later"]
        assert [position for _, position in back.heard][:2] == ["was", "was"], (
            "nothing may be passed over before it was told"
        )
        await pipeline.hub.close()

    async def test_clients_that_come_back_from_one_place_are_looked_up_once(self, pipeline: Pipeline) -> None:
        pipeline.backlog.found = {"was": Changes({"missed": Touched("then")})}
        several = [pipeline.join(after="was") for _ in range(20)]
        for ear in several:
            await heard(ear, "missed")
        assert len(pipeline.reading.asked) == 1
        await pipeline.hub.close()

    async def test_a_place_that_is_too_old_is_said_to_be(self, pipeline: Pipeline) -> None:
        ear = pipeline.join(after="long-ago")
        await heard(ear, "lost")
        pipeline.tail.tell(began("e"))
        await heard(ear, "e")
        assert ear.what == ["lost", "e"]
        await pipeline.hub.close()

    async def test_more_than_can_be_told_is_not_told_in_part(self, pipeline: Pipeline) -> None:
        ours, theirs = await pipeline.joined(), await pipeline.joined(OTHER)
        pipeline.positions.projected.clear()
        for number in range(MOST_CHANGES):
            pipeline.tail.tell(began(f"e{number}"))
        pipeline.tail.tell(began("small", OTHER))
        pipeline.positions.projected.set()
        await heard(ours, "lost")
        await heard(theirs, "small")
        assert "lost" not in theirs.what
        await pipeline.hub.close()

    async def test_a_tail_that_begins_further_on_has_lost_something(self, pipeline: Pipeline) -> None:
        ear = await pipeline.joined()
        pipeline.tail.tell(began("e"))
        await heard(ear, "e")
        pipeline.hub.began(pipeline.tail.offsets() or {})
        pipeline.tail.tell(began("f"))
        await heard(ear, "f")
        assert "lost" not in ear.what
        pipeline.hub.began({**(pipeline.tail.offsets() or {}), JOURNAL: 99})
        await heard(ear, "lost")
        await pipeline.hub.close()

    async def test_a_database_that_is_away_is_waited_for_and_a_mistake_of_ours_is_survived(
        self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("handrail_gateway.channels.hub.RETRY_SECONDS", 0.01)
        ear = await pipeline.joined()
        pipeline.reading.fails.append(unavailable("DATABASE_UNAVAILABLE", "away"))
        pipeline.tail.tell(began("e"))
        await heard(ear, "e")
        assert ear.what == ["joined", "e"]
        pipeline.reading.fails.append(KeyError("a mistake"))
        pipeline.tail.tell(began("f"))
        await heard(ear, "lost")
        pipeline.tail.tell(began("g"))
        await heard(ear, "g")
        await pipeline.hub.close()

    async def test_records_that_cannot_be_read_stop_nothing(self, pipeline: Pipeline) -> None:
        ear = await pipeline.joined()
        for topic in (EXECUTION_EVENTS, APPROVAL_EVENTS, AGENT_REGISTERED, RUNNER_STATUS):
            for value in (b"", b"[]", b"{", b'{"events": [1], "at": 1}', None):
                record = SimpleNamespace(topic=topic, key=None, value=value, offset=0)
                pipeline.tail.tell(record, TopicPartition(topic, 0))
        pipeline.tail.tell(began("e"))
        await heard(ear, "e")
        await pipeline.hub.close()

    async def test_when_the_last_has_left_nothing_is_watched(self, pipeline: Pipeline) -> None:
        ear = await pipeline.joined()
        pipeline.hub.leave(ACME, ear, "tasks")
        await until(lambda: pipeline.tail.watcher is None)
        again = await pipeline.joined()
        pipeline.tail.tell(began("e"))
        await heard(again, "e")
        assert ear.what == ["joined"]
        await pipeline.hub.close()


# --- one client -----------------------------------------------------------------------------------------------------------


class FakePipe:
    def __init__(self) -> None:
        self.full, self.written, self.left = False, b"", 0
        self.roomy: Callable[[], None] = lambda: None

    def write(self, frames: bytes) -> None:
        self.written += frames

    def leave(self, code: int, reason: str) -> None:
        self.left = code


class FakeHub:
    def __init__(self) -> None:
        self.joining: list[Joining] = []
        self.left: list[str] = []

    def join(self, tenant: tuple[str, str], joining: Joining) -> None:
        self.joining.append(joining)

    def leave(self, tenant: tuple[str, str], member: Any, channel: str) -> None:
        self.left.append(channel)

    def position(self) -> str:
        return "here"


class Talk:
    """One client, and what it says and hears."""

    def __init__(self, expires_at: float = 2**40) -> None:
        self.pipe, self.hub = FakePipe(), FakeHub()
        self.says: asyncio.Queue[Any] = asyncio.Queue()
        nothing: Any = None
        hub: Any = self.hub
        caller = Caller("ada", "acme", "apollo", expires_at)
        self.client = Client(nothing, hub, nothing, caller, self.pipe)
        self.running = asyncio.create_task(self.client.run(self.says.get))

    async def say(self, **said: Any) -> None:
        await self.raw(orjson.dumps(said).decode())

    async def raw(self, text: str | None) -> None:
        self.says.put_nowait({"type": "websocket.receive", "text": text})
        await asyncio.sleep(0.001)

    @property
    def heard(self) -> list[Any]:
        return unframed(self.pipe.written)

    async def goes(self) -> None:
        self.says.put_nowait({"type": "websocket.disconnect"})
        await self.running


class TestClient:
    async def test_a_client_may_ask_for_several_channels_each_from_its_place(self) -> None:
        talk, place = Talk(), encode_position(dict.fromkeys(PROJECTED, 7))
        await talk.say(type="subscribe", channels=["tasks", "agents"], positions={"agents": place, "approvals": place})
        assert [(each.channel, each.after) for each in talk.hub.joining] == [
            ("tasks", ""), ("agents", place), ("approvals", place),
        ]  # fmt: skip
        await talk.say(type="unsubscribe", channel="agents")
        assert talk.heard[-1] == {"type": "unsubscribed", "channel": "agents", "reason": "asked"}
        await talk.goes()
        assert set(talk.hub.left) == {"tasks", "agents", "approvals"}

    @pytest.mark.parametrize(
        ("said", "code"),
        [
            ("{", "INVALID_MESSAGE"),
            ("", "INVALID_MESSAGE"),
            ('{"type": "sing"}', "INVALID_MESSAGE"),
            ('{"type": "subscribe", "chanel": "tasks"}', "INVALID_MESSAGE"),
            ('{"type": "subscribe", "channel": "nothing"}', "UNKNOWN_CHANNEL"),
            ('{"type": "subscribe", "channel": "execution: x"}', "UNKNOWN_CHANNEL"),
            ('{"type": "subscribe", "channel": "tasks", "after": "4.1"}', "INVALID_POSITION"),
            ('{"type": "subscribe", "channel": "execution:e", "after": "AAAA"}', "INVALID_POSITION"),
        ],
    )
    async def test_what_cannot_be_used_is_answered_and_changes_nothing(self, said: str, code: str) -> None:
        talk = Talk()
        await talk.raw(said)
        assert [(each["type"], each["code"]) for each in talk.heard] == [("error", code)]
        assert talk.hub.joining == []
        await talk.raw(None)
        await talk.goes()

    async def test_one_connection_listens_to_so_many_channels(self) -> None:
        talk = Talk()
        await talk.say(type="subscribe", channels=["tasks"])
        talk.client._told |= dict.fromkeys(map(str, range(99)), "")
        await talk.say(type="subscribe", channels=["agents", "tasks"])
        assert [each["code"] for each in talk.heard] == ["TOO_MANY_CHANNELS"]
        talk.client._told = {"tasks": ""}
        await talk.goes()

    async def test_a_client_that_takes_nothing_is_told_where_it_stands_and_let_go(self) -> None:
        talk = Talk()
        await talk.say(type="subscribe", channel="tasks")
        talk.client.hear(Item(b"", 1, "tasks", "first"))
        talk.pipe.full = True
        talk.client.hear(Item(b"x" * QUEUE_BYTES, 1, "tasks", "second"))
        assert talk.pipe.left == 0
        talk.client.hear(Item(b"x", 1, "tasks", "third"))
        assert talk.pipe.left == 4408
        assert (talk.heard[-1]["code"], talk.heard[-1]["positions"]) == ("SLOW_CLIENT", {"tasks": "first"})
        talk.client.hear(Item(b"x", 1, "tasks", "fourth"))
        assert len(talk.heard) == 1
        await talk.goes()

    async def test_what_waited_goes_out_in_order_once_there_is_room(self) -> None:
        talk = Talk()
        talk.pipe.full = True
        for number in range(3):
            talk.client.hear(Item(b"%d" % number))
        assert talk.pipe.written == b""
        talk.pipe.full = False
        talk.client.hear(Item(b"3"))
        assert talk.pipe.written == b"", "it may not pass those that wait"
        talk.pipe.roomy()
        assert talk.pipe.written == b"0123"
        await talk.goes()

    async def test_a_pong_says_how_far_everything_has_been_told(self) -> None:
        talk = Talk()
        await talk.say(type="subscribe", channels=["tasks", "agents"])
        talk.client.joined("tasks", "there")
        await talk.say(type="ping")
        assert talk.heard[-1] == {"type": "pong", "positions": {"tasks": "here"}}, "who still waits has heard nothing"
        await talk.goes()

    async def test_an_expired_token_ends_it(self) -> None:
        talk = Talk(expires_at=0.0)
        await until(lambda: talk.pipe.left == 4401)
        assert talk.heard[-1]["code"] == "TOKEN_EXPIRED"
        await talk.goes()
