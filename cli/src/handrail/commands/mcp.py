"""`handrail mcp`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from handrail.commands.gateway import Org, Project, Token, Url, address
from handrail.commands.up import DataDir
from handrail.stack import data_folder

if TYPE_CHECKING:  # importing it takes half a second, which other commands don't pay
    from handrail_gateway.mcp.api import Api
    from mcp.server.mcpserver import Context


def mcp(url: Url = "", org: Org = "demo-org", project: Project = "demo-project", data_dir: DataDir = None) -> None:
    """Be an MCP server on standard input and output: workflows, executions and approvals of a gateway, as tools.

    For MCP clients that start their servers as commands. The token is that of HANDRAIL_TOKEN, or one of the
    development issuer of --data-dir. A gateway serves the same over HTTP at /mcp.

    Example: handrail mcp --url http://127.0.0.1:8000
    """
    token = Token(data_folder(data_dir), org, project, "mcp")
    asyncio.run(_serve(address(data_dir, url), token))


async def _serve(base: str, token: Token) -> None:
    from handrail_gateway.app import VERSION
    from handrail_gateway.mcp.api import Api
    from handrail_gateway.mcp.server import make_server

    async with httpx2.AsyncClient(base_url=base, auth=token, timeout=60) as client:

        @asynccontextmanager
        async def same(_: "Context[Any, Any]") -> "AsyncIterator[Api]":
            yield Api(client)

        await make_server(same, VERSION).run_stdio_async()
