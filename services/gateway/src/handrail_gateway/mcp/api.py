"""The API as the tools use it: what it refuses becomes an error that a model can act on."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
from mcp.server.mcpserver.exceptions import ToolError


def at(*parts: str) -> str:
    """A path of the API; what a model gives as an id can't lead to another."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


@dataclass(frozen=True, slots=True)
class Api:
    """A client whose base is `/api/v1` of a gateway, with somebody's credentials. Raises `ToolError`."""

    client: httpx2.AsyncClient

    async def get(self, path: str, **query: Any) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        return await self._call("GET", path, params=given)

    async def post(self, path: str, body: Any, key: str | None) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self._call("POST", path, json=body, headers=headers)

    async def _call(self, method: str, path: str, **request: Any) -> Any:
        try:
            answer = await self.client.request(method, path, **request)
        except httpx2.HTTPError as error:
            raise unreachable(self.client, error) from error
        if answer.status_code >= 300:
            raise ToolError(told(answer))
        return answer.json()


def unreachable(client: httpx2.AsyncClient, error: Exception) -> ToolError:
    return ToolError(
        f"the gateway at {client.base_url.copy_with(path='/')} does not answer ({error or type(error).__name__}): see "
        "that it runs, then try again; what was asked for may have happened, so repeat with the same idempotency_key"
    )


def told(answer: httpx2.Response) -> str:
    """What a refusal says: its code, its sentence, and every part of the request that is wrong."""
    try:
        problem = answer.json()
    except ValueError:
        return f"the gateway answered {answer.status_code}: {answer.text[:300]}"
    mistakes = "".join(f"\n{entry['path']}: {entry['message']}" for entry in problem.get("errors") or ())
    again = answer.headers.get("retry-after")
    later = f" Try again in {again} s." if again else ""
    return f"{problem.get('code', answer.status_code)}: {problem.get('detail', answer.text)}{later}{mistakes}"
