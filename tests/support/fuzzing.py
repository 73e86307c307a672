"""Hooks of schemathesis: most requests name what is there, so that they come past the first 404; some bodies compile.

`HANDRAIL_FUZZ_KNOWN` is a file with ids by kind, and bodies by operation. What a request gets depends on nothing but the request.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import schemathesis

KNOWN: dict[str, Any] = json.loads(Path(os.environ["HANDRAIL_FUZZ_KNOWN"]).read_text())
KINDS = {"name": {"agents": "agent", "mcps": "server", "budgets": "budget"}, "id": {"tasks": "execution_id"}}
"""What a parameter of this name is, by a part of the path."""
ENDLESS = ("/stream", ":subscribe")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Three of four path parameters become a known id, and half of the bodies a known one. A removal gets the last of its
    kind: the others stay.
    """
    whole = crc32(repr((case.path_parameters, case.operation.label, case.query, str(case.body))).encode())
    if isinstance(case.body, dict) and case.operation.label in KNOWN["bodies"] and whole % 2:
        case.body = KNOWN["bodies"][case.operation.label]
    for name in case.path_parameters or ():
        kind = kind_of(name, case.operation.path)
        known = KNOWN.get(f"ended_{kind}" if case.operation.path.endswith(ENDLESS) else kind, [])
        chance = crc32(repr((case.path_parameters[name], case.operation.label, case.query, str(case.body))).encode())
        if known and chance % 4:
            ids = known[-1:] if case.method.upper() == "DELETE" else known[:-1] or known
            case.path_parameters[name] = ids[chance % len(ids)]


def kind_of(name: str, path: str) -> str:
    by_part: Mapping[str, str] = KINDS.get(name, {})
    return next((kind for part, kind in by_part.items() if part in path.split("/")), name)
