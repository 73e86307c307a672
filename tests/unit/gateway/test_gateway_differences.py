"""Two definitions side by side, as a person reads them."""

from typing import Any

import pytest
from handrail_gateway.differences import differences

A, B = {"step_id": "a", "next_steps": ["b"]}, {"step_id": "b"}


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"name": "x"}, {"name": "x"}, []),
        ({"name": "x"}, {"name": "y"}, [("name", "changed")]),
        ({"name": "x", "description": ""}, {"name": "x", "timeout_seconds": 5},
         [("description", "removed"), ("timeout_seconds", "added")]),
        ({"steps": [A, B]}, {"steps": [B, A]}, []),
        ({"steps": [A, B]}, {"steps": [B]}, [("steps[a]", "removed")]),
        ({"steps": [A]}, {"steps": [{"step_id": "a", "next_steps": ["b", "c"]}]}, [("steps[a].next_steps[1]", "added")]),
        ({"tasks": [{"agent": "x"}]}, {"tasks": [{"agent": "y"}, {"agent": "z"}]},
         [("tasks[0].agent", "changed"), ("tasks[1]", "added")]),
        ({"steps": [A]}, {"steps": "a"}, [("steps", "changed")]),
    ],
)  # fmt: skip
def test_differences_name_their_place(before: Any, after: Any, changes: list[tuple[str, str]]) -> None:
    assert [(found["path"], found["kind"]) for found in differences(before, after)] == changes
