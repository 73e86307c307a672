"""MCP servers and tools."""

from datetime import datetime
from typing import Any, Literal

from handrail_contracts.agents import McpServerConfig
from handrail_contracts.codec import first_mistake
from pydantic import BaseModel, Field, ValidationError, model_validator

from handrail_gateway.schemas.base import JsonObject, Request


class ServerRequest(Request):
    """A server that is reached over streamable HTTP. Servers that are commands are in the operator's file only."""

    name: str = Field("", max_length=255, description="for people")
    description: str = Field("", max_length=10_000)
    url: str = Field(max_length=2000, description="its endpoint, such as https://tools.example.com/mcp")
    token_env: str | None = Field(
        None, max_length=200, description="the runner's environment variable that holds its bearer token"
    )
    headers_env: dict[str, str] = Field(
        {}, max_length=20, description="headers, by the runner's variable that holds their value"
    )
    timeout_seconds: float = Field(60.0, gt=0, le=3600, description="of one call")
    ask_first: list[str] = Field(
        [], max_length=100, description="its tools that a person has to allow, whoever calls them"
    )

    @model_validator(mode="after")
    def _usable(self) -> "ServerRequest":
        try:
            McpServerConfig.model_validate(self._given())
        except ValidationError as error:
            raise ValueError(first_mistake(error)[1].removeprefix("Value error, ")) from error
        return self

    def _given(self) -> JsonObject:
        return self.model_dump(exclude={"name", "description"})

    def config(self) -> JsonObject:
        """As it is registered."""
        return McpServerConfig.model_validate(self._given()).model_dump(exclude_defaults=True, exclude_none=True)


class Tool(BaseModel):
    name: str
    description: str
    parameters: JsonObject | None
    server: str | None = Field(None, description="the MCP server that has it; none for native tools")
    disabled: str | None = Field(None, description="why it can't be called, if it can't")


class ServerState(BaseModel):
    state: Literal["connected", "unreachable", "unknown"] = Field(description="as a runner found it")
    reason: str
    since: datetime | None


class Server(BaseModel):
    name: str
    title: str
    description: str
    shared: bool = Field(description="belongs to the platform, not to a tenant")
    config: dict[str, Any]
    registered_at: datetime
    state: ServerState
    tools: list[Tool]


class ServerPage(BaseModel):
    items: list[Server]
    next_cursor: str | None
