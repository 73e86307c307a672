"""Tools that every runner has."""

import csv
import io
import json
from typing import Any

from handrail_agent_runner.tools import read_only


@read_only
def parse_csv(text: str, delimiter: str = ",") -> list[dict[str, str | None]]:
    """The rows below the header line, each as an object by column name."""
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    return [{str(name): value for name, value in row.items() if name is not None} for row in rows]


@read_only
def parse_json(text: str) -> Any:
    """The value that a JSON text holds."""
    return json.loads(text)


@read_only
def word_count(text: str) -> dict[str, int]:
    """How many characters, words and lines a text has."""
    return {"characters": len(text), "words": len(text.split()), "lines": len(text.splitlines())}
