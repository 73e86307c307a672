"""Refusals: what the caller is told, and what is counted and logged. No credential is ever in either."""

import structlog

from handrail_gateway.metrics import AUTH_FAILURES
from handrail_gateway.problems import Problem

log = structlog.get_logger()


class Unauthenticated(Problem):
    """A 401. `reason` is a word for the metric; the detail tells nothing that the caller has not proved to know."""

    def __init__(self, reason: str, detail: str, error: str = "invalid_token") -> None:
        challenge = f'Bearer realm="handrail", error="{error}"' if error else 'Bearer realm="handrail"'
        super().__init__(401, "UNAUTHENTICATED", detail, headers={"WWW-Authenticate": challenge})
        self.reason = reason


def tell(problem: Problem, method: str) -> None:
    """Counts and logs a request that was not let in. The path is left out: a mistyped one may hold a secret.

    Limits count for themselves, and a 503 is not the caller's doing.
    """
    if problem.status in (429, 503):
        return
    reason = problem.reason if isinstance(problem, Unauthenticated) else problem.code.lower()
    AUTH_FAILURES.labels(reason).inc()
    log.info("not_let_in", method=method, status=problem.status, reason=reason)
