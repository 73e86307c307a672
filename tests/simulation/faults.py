"""Rules of the cores that can be left out; those of the protocol around them are left out where it is played."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from handrail_agent_runner import conversation
from handrail_approvals import decide as approvals
from handrail_approvals.rights import why_not
from handrail_contracts.steps import AgentAdvanced, Turn, advanced
from handrail_scheduler import allowances, budgets, decide, suggestions

from simulation.world import Fault

_decided, _ended_by, _why_not = suggestions.decided, allowances._ended_by, why_not


def _in_any_phase(decision: Any, message: Any) -> None:
    own = decision.state.suggestions[message.step_id]
    phase, own["phase"] = own["phase"], "waits"
    n = decision.state.n
    _decided(decision, message)
    if decision.state.n == n:
        own["phase"] = phase


def _forks(turns: tuple[Turn, ...], message: AgentAdvanced) -> tuple[Turn, ...] | None:
    follows = turns[-1].holder if turns else ""
    return advanced(turns, message.model_copy(update={"follows": follows}))


def _not_by_cancelling(event: Any) -> tuple[str, ...]:
    return () if event.type == "steps.cancelled" else _ended_by(event)


def _left(state: budgets.Budget, limits: Any, name: str) -> float | None:
    limit = getattr(limits, name)
    return None if limit is None else float(limit - state.spent.get(name, 0))


def _of_any_revision(gate: Any, message: Any) -> str | None:
    return _why_not(gate, message.model_copy(update={"revision": None}))


_PLANTED: dict[Fault, tuple[tuple[Any, str, Any], ...]] = {
    Fault.APPROVED_IN_ANY_PHASE: ((suggestions, "decided", _in_any_phase),),
    Fault.CONVERSATION_FORKS: ((decide, "advanced", _forks), (conversation, "advanced", _forks)),
    Fault.NOT_RETURNED_ON_CANCEL: ((allowances, "_ended_by", _not_by_cancelling),),
    Fault.RESERVED_IS_LEFT: ((budgets, "_left", _left),),
    Fault.ANY_REVISION: ((approvals, "why_not", _of_any_revision),),
}


@contextmanager
def planted(faults: frozenset[Fault]) -> Iterator[None]:
    """Nor does anybody sleep: time is the world's."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(conversation, "OUTCOME_SECONDS", 0))
        for fault in faults:
            for place, name, instead in _PLANTED.get(fault, ()):
                stack.enter_context(patch.object(place, name, instead))
        yield
