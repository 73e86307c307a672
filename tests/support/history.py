"""The history recorder: every client call as invoke, then ok, fail or unknown, in an append-only JSONL file.

    async with history.call("start", execution_id=eid) as call:
        response = await client.post(...)
        if response.status_code >= 500: call.unknown(status=response.status_code)
        elif response.status_code >= 400: call.fail(status=response.status_code)
        else: call.ok(offset=response.json()["offset"])

*fail* claims that the call had no effect and never will. Nothing but the caller's word or a refused connection proves
that, so a time-out, a reset, a cancellation or any other exception is *unknown*. A body that just ends is *ok*. A call
that never returned (the process was killed) is *unknown* to the loader. Times are `time.monotonic()`, one clock for all
processes of a machine.
"""

import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

Outcome = Literal["ok", "fail", "unknown"]


class Call:
    """The running call: name its outcome, once. `unknown` may still replace an earlier word, nothing replaces it."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.result: dict[str, Any] = {}

    def ok(self, **result: Any) -> None:
        self._settle("ok", result)

    def fail(self, **result: Any) -> None:
        self._settle("fail", result)

    def unknown(self, **result: Any) -> None:
        self._settle("unknown", result)

    def raised(self, error: BaseException) -> None:
        outcome: Outcome = "fail" if isinstance(error, ConnectionRefusedError) else "unknown"
        if self.outcome is None or outcome == "unknown":
            self._settle(outcome, self.result | {"error": repr(error)[:500]})

    def _settle(self, outcome: Outcome, result: dict[str, Any]) -> None:
        if self.outcome == "unknown" and outcome != "unknown":
            raise ValueError(f"this call's outcome is unknown; it cannot become {outcome}")
        self.outcome, self.result = outcome, result


class History:
    """Appends each line with one write, so processes may share a file and a kill tears at most the last line."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._name = os.urandom(6).hex()  # tells the calls of several recorders of one file apart
        self._numbers = itertools.count(1)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._file)

    @asynccontextmanager
    async def call(self, kind: str, **fields: Any) -> AsyncIterator[Call]:
        """Records the call around its body. Exceptions are recorded and go on."""
        number = f"{self._name}-{next(self._numbers)}"
        call = Call()
        self._append({"call": number, "event": "invoke", "kind": kind, "at": self._clock(), "fields": fields})
        try:
            yield call
        except BaseException as error:
            call.raised(error)
            raise
        finally:
            self._append(
                {"call": number, "event": call.outcome or "ok", "at": self._clock(), "result": call.result},
            )

    def note(self, kind: str, **fields: Any) -> None:
        """Something that happened at once and has no outcome: a kill, a pause, a heal."""
        self._append({"event": "note", "kind": kind, "at": self._clock(), "fields": fields})

    def _append(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line, default=str, separators=(",", ":")).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a loaded history; `completed` is None if it never returned."""

    call: str
    kind: str
    fields: dict[str, Any]
    invoked: float
    completed: float | None = None
    outcome: Outcome = "unknown"
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    kind: str
    at: float
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoadedHistory:
    """Calls in the order of their invocation, and notes in the order of the file."""

    operations: tuple[Operation, ...]
    notes: tuple[Note, ...]

    def of(self, kind: str, outcome: Outcome | None = None) -> list[Operation]:
        return [o for o in self.operations if o.kind == kind and outcome in (None, o.outcome)]


def load_history(path: Path) -> LoadedHistory:
    operations: dict[str, Operation] = {}
    notes: list[Note] = []
    for line in read_json_lines(path):
        match line["event"]:
            case "note":
                notes.append(Note(line["kind"], line["at"], line["fields"]))
            case "invoke":
                operations[line["call"]] = Operation(line["call"], line["kind"], line["fields"], line["at"])
            case outcome:
                begun = operations[line["call"]]
                operations[line["call"]] = Operation(
                    begun.call, begun.kind, begun.fields, begun.invoked, line["at"], outcome, line["result"]
                )
    return LoadedHistory(tuple(operations.values()), tuple(notes))


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of an append-only file; a last line without its newline was torn by a kill and is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield json.loads(line)
