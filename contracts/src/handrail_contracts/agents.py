"""What the registrations of agents say in their `config`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handrail_contracts.envelope import JsonObject

OFFLINE = "offline"
IDEMPOTENCY_KEY = "handrail/idempotency-key"
"""In the `_meta` of a call of an MCP tool: the same for each attempt of a step."""


class BreakerConfig(BaseModel):
    """`config.breaker` of any agent: when it is left alone for a while. What is absent is as the runner's settings say."""

    model_config = ConfigDict(extra="forbid")

    failures: int | None = Field(None, ge=1, le=1000, description="so many of the latest `window` attempts failed")
    window: int | None = Field(None, ge=1, le=1000, description="as many as `failures`: so many in a row")
    pause_seconds: float | None = Field(None, gt=0, description="before one attempt tries it again")
    max_pause_seconds: float | None = Field(None, gt=0, description="pauses double up to here while tries fail")


class LlmConfig(BaseModel):
    """`config` of an agent of the kind `llm`."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        OFFLINE, description="`provider:name`, such as `openai:gpt-5-mini`; `offline` is the local model server"
    )
    fallback_model: str | None = Field(None, description="asked when the model fails in a way that may pass")
    base_url: str | None = Field(None, description="of a server that speaks OpenAI's chat completions")
    api_key_env: str | None = Field(None, description="the runner's environment variable that holds the key")
    instructions: str = ""
    output_schema: JsonObject | None = Field(None, description="JSON Schema of the answer; text without one")
    tools: list[str] = Field([], description="tools that it may call: native ones, and `server:tool`")
    ask_first: list[str] = Field([], description="those of its tools that a person has to allow, call by call")
    max_iterations: int = Field(10, ge=1, le=100, description="model calls in one attempt")
    timeout_seconds: float = Field(120.0, gt=0, description="of one model call")
    rate_limit: JsonObject | None = Field(None, description="`count` attempts in any `per_seconds`")
    breaker: BreakerConfig | Literal[False] | None = Field(None, description="False: it is always asked")
    temperature: float | None = None
    max_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _tools_of_its_own(self) -> "LlmConfig":
        others = [name for name in self.ask_first if name not in self.tools]
        if others:
            raise ValueError(f"ask_first names {', '.join(others)}, which it may not call at all; add it to tools")
        return self


class A2aConfig(BaseModel):
    """`config` of an agent of the kind `a2a`: one elsewhere that speaks the A2A protocol."""

    model_config = ConfigDict(extra="forbid")

    card_url: str = Field(
        pattern=r"^https?://[^\s/]",
        max_length=2000,
        description="of its card, such as https://agents.example/.well-known/agent-card.json",
    )
    header: str = Field("Authorization", pattern=r"^[A-Za-z0-9-]+$", description="sent with every request")
    header_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="the runner's environment variable that holds the header's value, such as `Bearer ...`",
    )
    timeout_seconds: float = Field(300.0, gt=0, description="of an attempt")
    wait_for_input: bool = Field(
        False, description="go on waiting when it asks for somebody's input, instead of failing"
    )
    rate_limit: JsonObject | None = Field(None, description="`count` attempts in any `per_seconds`")
    breaker: BreakerConfig | Literal[False] | None = Field(None, description="False: it is always asked")


class McpServerConfig(BaseModel):
    """`config` of a registration of the kind `mcp`: a server of tools. Secrets are named here, never said."""

    model_config = ConfigDict(extra="forbid")

    transport: Literal["http", "stdio"] = "http"
    url: str | None = Field(None, max_length=2000, description="its streamable HTTP endpoint")
    token_env: str | None = Field(None, description="the runner's environment variable that holds its bearer token")
    headers_env: dict[str, str] = Field({}, description="headers, by the runner's variable that holds their value")
    command: list[str] = Field([], description="starts it; only from the operator's file")
    env: dict[str, str] = Field({}, description="the command's variables, by the runner's that holds their value")
    timeout_seconds: float = Field(60.0, gt=0, le=3600, description="of one call")
    ask_first: list[str] = Field([], description="its tools that a person has to allow, whoever calls them")

    @model_validator(mode="after")
    def _reachable(self) -> "McpServerConfig":
        if self.transport == "http" and not (self.url or "").startswith(("http://", "https://")):
            raise ValueError("a server needs `url`, beginning with http:// or https://")
        if "@" in (self.url or "").partition("://")[2].partition("/")[0]:
            raise ValueError(
                "`url` must not hold a name and password: name the variable that holds them in `headers_env`"
            )
        if self.transport == "http" and (self.command or self.env):
            raise ValueError("`command` and `env` are for the transport `stdio`")
        if self.transport == "stdio" and (self.url or self.token_env or self.headers_env):
            raise ValueError("`url`, `token_env` and `headers_env` are for the transport `http`")
        return self
