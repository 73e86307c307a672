"""An installed package with tools that change something outside: each call is an effect at the effects server.

On the path of a runner, its folder is an installed distribution like any other.
"""

import json
import os
import urllib.request


def book(room: str, idempotency_key: str) -> str:
    """Books a room. Booked twice with one key, it is booked once."""
    return _change("book", room, idempotency_key)


def charge(amount: int) -> str:
    """Charges a card, as often as it is called."""
    return _change("charge", str(amount), "")


def _change(tool: str, what: str, key: str) -> str:
    body = json.dumps({"agent": tool, "step_id": what, "input": what}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(f"{os.environ['HANDRAIL_TEST_EFFECTS']}/api/v1/execute", body, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        response.read()
    return f"{tool} {what}: done"
