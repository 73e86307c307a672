"""One execution: what it is, what happens, its end, and steering it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from handrail_client import calls, models
from handrail_client.calls import Call
from handrail_client.errors import ExecutionFailed
from handrail_client.events import Ended, StreamEvent, follow
from handrail_client.models import Accepted, Execution, HistoryEvent
from handrail_client.transport import NOTHING, Transport, given


class Handle:
    """An execution by its id. Every steering word is in the log once it returns, and counts once the scheduler has read it."""

    def __init__(self, transport: Transport, execution_id: str) -> None:
        self._transport, self.id = transport, execution_id
        self._ids = {"execution_id": execution_id}

    async def get(self) -> Execution:
        return await self._transport.ask(calls.EXECUTION, self._ids)

    async def why(self) -> str:
        """What it waits for, in a sentence."""
        return (await self._transport.ask(calls.WHY, self._ids)).why

    def history(self) -> AsyncIterator[HistoryEvent]:
        """Every event of the scheduler's journal about it."""
        return self._transport.pages(calls.HISTORY, self._ids)

    def events(self, after: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """What happened (after the event with that id), then what happens, to the end: nothing missed, nothing twice."""
        return follow(self._transport, self.id, after)

    async def result(self, timeout: float | None = None) -> Any:
        """What it gives when it completes; `ExecutionFailed` if it ends otherwise, `TimeoutError` after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            found = await self.get()
            if found.status in models.ENDED:
                return self._given(found.status, found.result, found.error)
            async with aclosing(self.events()) as events:
                async for event in events:
                    if isinstance(event, Ended):
                        return self._given(event.status, event.result, event.error, event.reason or "")
            found = await self.get()
        return self._given(found.status, found.result, found.error)

    def _given(self, status: str, result: Any, error: models.StepError | None, reason: str = "") -> Any:
        if status != "completed":
            raise ExecutionFailed(self.id, status, None if error is None else error.model_dump(), reason)
        return result

    async def cancel(self, reason: str = "") -> None:
        await self._say(calls.CANCEL, {"reason": reason})

    async def terminate(self, reason: str = "") -> None:
        await self._say(calls.TERMINATE, {"reason": reason})

    async def pause(self, reason: str = "") -> None:
        await self._say(calls.PAUSE, {"reason": reason})

    async def resume(self, reason: str = "") -> None:
        await self._say(calls.RESUME, {"reason": reason})

    async def signal(self, name: str, data: Any = None, *, reason: str = "", key: str | None = None) -> None:
        """For the step that waits for it, now or later. The same `key` again is the same signal."""
        body = {"data": data, "reason": reason}
        await self._say(calls.SIGNAL, body, key, {"signal": name})

    async def skip(self, step_id: str, output: Any = None, reason: str = "") -> None:
        body = {"step_id": step_id, "output": output, "reason": reason}
        await self._say(calls.SKIP, body)

    async def edit(self, step_id: str, input: Any, reason: str = "") -> None:
        body = {"step_id": step_id, "input": input, "reason": reason}
        await self._say(calls.EDIT, body)

    async def retry(self, step_id: str | None = None, reason: str = "") -> "Handle":
        """What goes on: this execution, or a new one if this one had ended."""
        return await self._say(calls.RETRY, given(step_id=step_id, reason=reason))

    async def rewind(self, step_id: str, reason: str = "") -> "Handle":
        """What goes on from that step: this execution, or a new one if this one had ended."""
        body = {"step_id": step_id, "reason": reason}
        return await self._say(calls.REWIND, body)

    async def fork(
        self,
        step_id: str | None = None,
        *,
        version: int | None = None,
        input: Any = None,
        stub: bool = False,
        reason: str = "",
    ) -> "Handle":
        """A new execution from that step (or the first) of this one. `stub`: agents, tools and gates answer as recorded."""
        body = given(step_id=step_id, version=version, input=input, stub=stub, reason=reason)
        return await self._say(calls.FORK, body)

    async def _say(
        self, call: Call[Accepted], body: Any, key: str | None = None, ids: Mapping[str, str] = NOTHING
    ) -> "Handle":
        accepted = await self._transport.ask(call, {**self._ids, **ids}, body, key=key)
        return Handle(self._transport, accepted.execution_id)

    def __repr__(self) -> str:
        return f"Handle({self.id!r})"
