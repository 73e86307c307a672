"""Ids that follow from what they name."""

from functools import lru_cache

from handrail_contracts.ids import derive


@lru_cache(maxsize=16_384)
def run_id(execution_id: str, step_id: str) -> str:
    """Names a step run: the same for each of its attempts, and for the gate of an approval step."""
    return derive(execution_id, step_id)


def request_id(run: str, attempt: int) -> str:
    """Names one attempt."""
    return derive(run, attempt)
