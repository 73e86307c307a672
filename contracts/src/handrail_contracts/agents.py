"""What the registrations of agents say in their `config`."""

from pydantic import BaseModel, ConfigDict, Field

from handrail_contracts.envelope import JsonObject

OFFLINE = "offline"


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
    tools: list[str] = Field([], description="native tools that it may call")
    max_iterations: int = Field(10, ge=1, le=100, description="model calls in one attempt")
    timeout_seconds: float = Field(120.0, gt=0, description="of one model call")
    rate_limit: JsonObject | None = Field(None, description="`count` attempts in any `per_seconds`")
    temperature: float | None = None
    max_tokens: int | None = Field(None, ge=1)
