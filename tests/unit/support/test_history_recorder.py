import asyncio
import json
from pathlib import Path

import pytest
from support.history import History, load_history


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


async def test_a_call_that_just_ends_is_ok(path: Path) -> None:
    clock = iter([1.0, 2.5])
    with History(path, clock=lambda: next(clock)) as history:
        async with history.call("start", execution_id="e1"):
            pass
    (operation,) = load_history(path).operations
    assert (operation.kind, operation.outcome, operation.fields) == ("start", "ok", {"execution_id": "e1"})
    assert (operation.invoked, operation.completed) == (1.0, 2.5)


async def test_the_caller_names_the_outcome_and_the_result(path: Path) -> None:
    with History(path) as history:
        async with history.call("a") as call:
            call.ok(offset=4)
        async with history.call("b") as call:
            call.fail(status=422)
        async with history.call("c") as call:
            call.unknown(status=503)
    assert [(o.outcome, o.result) for o in load_history(path).operations] == [
        ("ok", {"offset": 4}),
        ("fail", {"status": 422}),
        ("unknown", {"status": 503}),
    ]


@pytest.mark.parametrize(
    "error", [TimeoutError("late"), ConnectionResetError("cut"), RuntimeError("?"), asyncio.CancelledError()]
)
async def test_an_exception_is_unknown_and_goes_on(path: Path, error: BaseException) -> None:
    with History(path) as history, pytest.raises(type(error)):
        async with history.call("start"):
            raise error
    (operation,) = load_history(path).operations
    assert operation.outcome == "unknown"
    assert operation.result == {"error": repr(error)}


async def test_a_refused_connection_is_a_failure(path: Path) -> None:
    with History(path) as history, pytest.raises(ConnectionRefusedError):
        async with history.call("start"):
            raise ConnectionRefusedError("nobody listens")
    assert [o.outcome for o in load_history(path).operations] == ["fail"]


async def test_a_time_out_after_the_callers_word_makes_it_unknown(path: Path) -> None:
    with History(path) as history, pytest.raises(TimeoutError):
        async with history.call("start") as call:
            call.fail(status=400)
            raise TimeoutError
    (operation,) = load_history(path).operations
    assert operation.outcome == "unknown"
    assert operation.result["status"] == 400


async def test_unknown_cannot_become_a_failure(path: Path) -> None:
    with History(path) as history, pytest.raises(ValueError, match="cannot become fail"):
        async with history.call("start") as call:
            call.unknown()
            call.fail()


async def test_a_call_that_never_returned_is_unknown_and_a_torn_line_is_left_out(path: Path) -> None:
    with History(path) as history:
        async with history.call("start", n=1):
            pass
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n" + lines[1][:10])
    (operation,) = load_history(path).operations
    assert (operation.outcome, operation.completed) == ("unknown", None)


async def test_calls_overlap_and_notes_stand_between_them(path: Path) -> None:
    with History(path) as history:
        async with history.call("outer"):
            history.note("kill", service="scheduler")
            async with history.call("inner") as inner:
                inner.fail()
    loaded = load_history(path)
    outer, inner_call = loaded.operations
    assert outer.completed is not None
    assert inner_call.completed is not None
    assert outer.invoked <= loaded.notes[0].at <= inner_call.invoked <= inner_call.completed <= outer.completed
    assert loaded.notes[0].fields == {"service": "scheduler"}
    assert loaded.of("inner", "fail") == [inner_call]
    assert loaded.of("inner", "ok") == []


async def test_a_second_recorder_appends_to_the_same_file(path: Path) -> None:
    for kind in ("first", "second"):
        with History(path) as history:
            async with history.call(kind):
                pass
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert [o.kind for o in load_history(path).operations] == ["first", "second"]
