"""What can go wrong, by what it means: one class per code or status that a program would treat on its own."""

from collections.abc import Mapping
from typing import Any, ClassVar


class HandrailError(Exception):
    """The base of all errors of this package."""


class Unreachable(HandrailError):
    """No answer came, however often it was tried. A write may have happened: the same idempotency key does it once."""


class ExecutionFailed(HandrailError):
    """The execution ended, and not well. `status`: failed, cancelled or timeout; `error`: `code` and `message`, if it has one."""

    def __init__(self, execution_id: str, status: str, error: Mapping[str, Any] | None, reason: str = "") -> None:
        why = f"{error.get('code')}: {error.get('message')}" if error else reason
        super().__init__(f"execution {execution_id}: {status}{why and f', {why}'}")
        self.execution_id, self.status, self.error, self.reason = execution_id, status, error, reason


class UnknownKey(HandrailError):
    """A desk that asks its clients for a key has got none, or one that was not added to it."""


class ApiError(HandrailError):
    """The gateway's refusal, RFC 9457. `code` is for programs, `detail` for people; `errors` says where, of a 422."""

    of_status: ClassVar[dict[int, type["ApiError"]]] = {}
    of_code: ClassVar[dict[str, type["ApiError"]]] = {}

    def __init_subclass__(cls, *, status: int | None = None, code: str | None = None) -> None:
        if status is not None:
            cls.of_status[status] = cls
        if code is not None:
            cls.of_code[code] = cls

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        """`problem`: all that it says, also members of its own. `retry_after`: seconds."""
        self.status, self.problem, self.retry_after = status, problem, retry_after
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        self.instance = str(problem.get("instance", ""))
        self.errors: list[Mapping[str, str]] = list(problem.get("errors") or ())
        where = "".join(f"\n  {found.get('path')}: {found.get('message')}" for found in self.errors)
        super().__init__(f"{status} {self.code} {self.instance}: {self.detail}{where}")


class Unauthenticated(ApiError, status=401): ...


class Forbidden(ApiError, status=403): ...


class NotFound(ApiError, status=404): ...


class Conflict(ApiError, status=409): ...


class AlreadyDecided(Conflict, code="ALREADY_DECIDED"): ...


class AlreadyFinished(Conflict, code="ALREADY_FINISHED"): ...


class Revised(Conflict, code="REVISED"):
    """The suggestion has another revision than the one that the decision was about."""


class Invalid(ApiError, status=422): ...


class KeyReused(Invalid, code="IDEMPOTENCY_KEY_REUSED"): ...


class TooMany(ApiError, status=429): ...


class Unavailable(ApiError, status=503): ...


class OutcomeUnknown(Unavailable, code="OUTCOME_UNKNOWN"):
    """It may have been accepted. The same idempotency key does it once."""


def api_error(status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> ApiError:
    """The class of its code; without one of its own, that of its status."""
    kind = ApiError.of_code.get(str(problem.get("code"))) or ApiError.of_status.get(status, ApiError)
    return kind(status, problem, retry_after)
