"""What a workflow's card says, in its JSON form. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

PREFIX = "/a2a/workflows"
PROTOCOL = "1.0"
MODES = ["text/plain", "application/json"]


def card_of(row: Mapping[str, Any], description: str, base_url: str) -> dict[str, Any]:
    """`row` is of a workflow's version, `base_url` is where the caller found the gateway."""
    address = f"{base_url.rstrip('/')}{PREFIX}/{quote(row['workflow_id'], safe='')}"
    described = description or f"Runs the workflow {row['name']}."
    skill = {"id": row["workflow_id"], "name": row["name"], "description": described, "tags": ["workflow"]}
    return {
        "name": row["name"],
        "description": described,
        "version": str(row["version"]),
        "supportedInterfaces": [
            {"url": address, "protocolBinding": binding, "protocolVersion": PROTOCOL}
            for binding in ("JSONRPC", "HTTP+JSON")
        ],
        "capabilities": {"streaming": True, "pushNotifications": False, "extendedAgentCard": False},
        "securitySchemes": {"bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer", "bearerFormat": "JWT"}}},
        "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        "defaultInputModes": MODES,
        "defaultOutputModes": MODES,
        "skills": [skill],
    }
