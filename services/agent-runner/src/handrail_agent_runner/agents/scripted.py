"""Agents that need no network and no model: they answer by a script, always the same way."""

import asyncio
from typing import Any

from handrail_contracts.envelope import JsonObject
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_graph import Template, compile_template
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, Progress


class ScriptedAgent:
    """`config`: `output` (a template over `input` and `context`), `delay_ms`, `deltas` (texts streamed on the way),
    `fail_attempts` (how many first attempts fail)."""

    inline = None

    def __init__(self, output: Template, deltas: list[Template], delay_ms: float, fail_attempts: int) -> None:
        self._output, self._deltas = output, deltas
        self._delay, self._fail_attempts = delay_ms / 1000, fail_attempts

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        scope = {"input": request.input, "context": request.context}
        pause = self._delay / (len(self._deltas) + 1)
        for delta in self._deltas:
            await asyncio.sleep(pause)
            progress("delta", {"content": delta.render(scope)})
        await asyncio.sleep(pause)
        if request.attempt <= self._fail_attempts:
            raise AgentFailure("AGENT_ERROR", f"attempt {request.attempt} fails, as scripted", retryable=True)
        return self._output.render(scope)


def make_scripted_agent(registered: AgentRegistered, settings: Settings) -> ScriptedAgent:
    config: JsonObject = registered.config
    return ScriptedAgent(
        compile_template(config.get("output", "{{input}}")),
        [compile_template(delta) for delta in config.get("deltas", [])],
        float(config.get("delay_ms", 0)),
        int(config.get("fail_attempts", 0)),
    )
