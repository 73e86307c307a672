"""Agents that are functions in installed packages."""

import asyncio
import contextvars
import importlib
import inspect
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from handrail_contracts.envelope import JsonObject
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, InlineFunction, Progress

GROUP = "handrail.agents"


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a plain function as quick enough (well under a millisecond) to run on the event loop itself."""
    function.__handrail_inline__ = True  # type: ignore[attr-defined]
    return function


class PythonAgent:
    """`function(input, context)`: coroutine functions run on the loop, plain ones in a thread of their own.

    A thread can't be cancelled: one whose attempt timed out keeps its permit, so that hanging ones can't pile up.
    """

    def __init__(self, function: Callable[[Any, JsonObject], Any], most_threads: int) -> None:
        self._function = function
        self._async = inspect.iscoroutinefunction(function)
        marked = getattr(function, "__handrail_inline__", False) and not self._async
        self.inline: InlineFunction | None = function if marked else None
        self._permits = asyncio.Semaphore(most_threads)

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        if self._async:
            return await self._function(request.input, request.context)
        await self._permits.acquire()
        return await self._in_thread(request)

    def _in_thread(self, request: StepRequested) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            self._permits.release()
            if not future.done():
                future.set_result(result) if error is None else future.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = self._function(request.input, request.context)
            except BaseException as raised:
                error = _harmless(raised)
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:
                pass  # the loop has ended, nobody waits

        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(work,), name=f"agent-{request.agent}", daemon=True).start()
        return future


def _harmless(error: BaseException) -> BaseException:
    """A future takes no StopIteration, and a thread's SystemExit or cancellation is not the runner's."""
    return error if isinstance(error, Exception) and not isinstance(error, StopIteration) else RuntimeError(repr(error))


def make_python_agent(registered: AgentRegistered, settings: Settings) -> PythonAgent:
    """`config.entry_point` is `package.module:function`; without it, an entry point of the agent's name is looked up."""
    name = registered.config.get("entry_point")
    try:
        if name:
            module, _, attribute = str(name).partition(":")
            function = getattr(importlib.import_module(module), attribute)
        else:
            [found] = entry_points(group=GROUP, name=registered.agent)
            function = found.load()
    except (ImportError, AttributeError, ValueError) as error:
        where = f"entry point {name or registered.agent!r} of agent {registered.agent}"
        raise AgentFailure("AGENT_ERROR", f"{where} can't be loaded: {error}", retryable=False) from error
    return PythonAgent(function, settings.runner_concurrency)
