"""The page behind a decision link: whatever people and programs wrote is text on it."""

from typing import Any

import orjson
import pytest
from handrail_gateway.database import Json
from handrail_gateway.decision_page import asked

EVIL = "<script>alert(1)</script>\"'"


def page(**fields: Any) -> str:
    gate = {"workflow_id": "w", "step_id": "s", "deadline": None, "message": "ok?", "digest": "d", "rules": None}
    return bytes(asked({**gate, **fields}, fields.pop("show", None), fields.pop("person", "ann")).body).decode()


@pytest.mark.parametrize("field", ["message", "step_id", "workflow_id", "digest", "show", "person"])
def test_nothing_is_markup(field: str) -> None:
    assert "<script" not in page(**{field: EVIL})


def test_attachments_are_links_only_to_the_web() -> None:
    attached = [{"name": EVIL, "url": 'https://x.example/"><script>'}, {"name": "b", "url": "javascript:alert(1)"}]
    shown = page(rules=Json(orjson.dumps({"attachments": attached}).decode()))
    assert shown.count("<a href=") == 1
    assert "<script" not in shown and 'href="javascript' not in shown
