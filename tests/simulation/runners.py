"""Runners: fences, duplicates, watermark, answers, as the real one keeps them; what they do is written down."""

from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from handrail_agent_runner.answered import Answered, attempt_key
from handrail_contracts import topics
from handrail_contracts.codec import decode, encode
from handrail_contracts.envelope import utc
from handrail_contracts.journal import FENCE_HEADER, Fences
from handrail_contracts.steps import AgentExecuted, StepRequested, run_of
from handrail_runtime.watermark import Watermark

from simulation.attempts import Outcome, Speaker, carry_out
from simulation.world import COMMAND_PARTITIONS, Fault, World


@dataclass(eq=False)
class Work:
    """An attempt under way, and what the runner that took it keeps of it."""

    request: StepRequested
    speaker: Speaker
    mark: Watermark
    offset: int
    answered: Answered
    unanswered: dict[str, tuple[str, int]]
    coroutine: Coroutine[Any, Any, Outcome | None]


class Runner:
    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.life = world, name, 0
        self.up = False
        self.committed = [0] * COMMAND_PARTITIONS
        self._begun = 0
        self._cut_off: list[Work] = []

    def crash(self) -> None:
        """What it had in hand may be run again by the next. Some of it dies; the rest is only cut off, and goes on."""
        if not self.up:
            return
        self.world.excused.update(self._unanswered.values())
        for work in self._running:
            if self.world.dice.random() < 0.5:
                self._cut_off.append(work)
            else:
                work.speaker.life += 1
                work.coroutine.close()
        self.life += 1
        self.up = False

    def _start(self) -> None:
        self.up = True
        self._fences = Fences({})
        for _, _, headers in self.world.logs[topics.FENCES, 0]:
            self._fences.observe(headers)
        self._answered = Answered()
        self._marks = [Watermark(position) for position in self.committed]
        self._begun_before = [
            len(self.world.logs[topics.STEP_REQUESTED, partition]) for partition in range(COMMAND_PARTITIONS)
        ]
        self._running: list[Work] = []
        self._unanswered: dict[str, tuple[str, int]] = {}
        for _, answer in self.world.answers():
            if isinstance(answer, AgentExecuted):
                self._answered.answer(attempt_key(answer.run_id, answer.attempt))

    def act(self) -> None:
        if not self.up:
            self._start()
        dice = self.world.dice.random()
        if dice < 0.3:
            self._take(self.world.dice.randrange(COMMAND_PARTITIONS))
        elif dice < 0.9:
            under_way = [*self._running, *self._cut_off]
            for _ in range(2 if under_way else 0):
                self._go_on(self.world.dice.choice(under_way))
        else:
            self._commit()

    def everything(self) -> bool:
        if not self.up:
            self._start()
        did = False
        for partition in range(COMMAND_PARTITIONS):
            while self._take(partition):
                did = True
        for work in [*self._running, *self._cut_off]:
            for _ in range(5):
                self._go_on(work)
            did = did or not work.speaker.sleeps
        return did

    def _take(self, partition: int) -> bool:
        mark, log = self._marks[partition], self.world.logs[topics.STEP_REQUESTED, partition]
        if mark.next_to_read >= len(log):
            return False
        offset = mark.next_to_read
        _, value, headers = log[offset]
        mark.begin(offset)
        if Fault.RUNNER_COMMITS_FIRST in self.world.faults:
            self.committed[partition] = offset + 1
        if any(name == FENCE_HEADER for name, _ in headers):
            self._fences.observe(headers)
            mark.finish(offset)
            return True
        allowed = self._fences.allows(headers) or Fault.RUNNER_IGNORES_FENCES in self.world.faults
        request = decode(topics.STEP_REQUESTED, value)
        key = attempt_key(request.run_id, request.attempt)
        if allowed and (self._answered.begin(key) or Fault.RUNNER_NO_DEDUPE in self.world.faults):
            self.world.effects.append(request)
            self._unanswered[key] = (request.run_id, request.attempt)
            self._begin(request, mark, offset, offset < self._begun_before[partition])
        else:
            mark.finish(offset)
        return True

    def _begin(self, request: StepRequested, mark: Watermark, offset: int, taken_over: bool) -> None:
        self._begun += 1
        speaker = Speaker(f"{self.name}-{self._begun}")
        coroutine = carry_out(self.world, speaker, request, taken_over)
        self._running.append(Work(request, speaker, mark, offset, self._answered, self._unanswered, coroutine))

    def _go_on(self, work: Work) -> None:
        if work not in self._running and work not in self._cut_off:
            return
        try:
            work.coroutine.send(None)
        except StopIteration as done:
            for place in (self._running, self._cut_off):
                with suppress(ValueError):
                    place.remove(work)
            self._finish(work, done.value)

    def _finish(self, work: Work, outcome: Outcome | None) -> None:
        """What was cut off still answers; but nothing of it is committed."""
        key = attempt_key(work.request.run_id, work.request.attempt)
        work.answered.answer(key)

        def arrived(_: int) -> None:
            work.mark.finish(work.offset)
            work.unanswered.pop(key, None)

        if outcome is None:
            arrived(0)
            return
        record = (work.request.execution_id, encode(self._answer(work.request, outcome)), list[tuple[str, bytes]]())
        self.world.send_until_taken(work.speaker, (topics.AGENT_EXECUTED, 0), record, arrived)

    def _answer(self, request: StepRequested, outcome: Outcome) -> AgentExecuted:
        return AgentExecuted(
            event_id=f"{attempt_key(request.run_id, request.attempt)}-answer",
            occurred_at=utc(self.world.now),
            **run_of(request),
            agent=request.agent,
            status="suggested" if outcome.call_id else "failed" if outcome.error else "completed",
            output=outcome.output,
            error=outcome.error,
            call_id=outcome.call_id,
            model_calls=tuple(outcome.calls),
        )

    def _commit(self) -> None:
        self.committed = [mark.position for mark in self._marks]
