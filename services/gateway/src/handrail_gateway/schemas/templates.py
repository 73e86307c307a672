"""Templates and what is made of them."""

from typing import Any

from pydantic import BaseModel, Field

from handrail_gateway.schemas.base import JsonObject, Name, Request
from handrail_gateway.schemas.workflows import Workflow


class InstantiateRequest(Request):
    name: Name | None = Field(None, description="of the workflow; the template's if absent")
    parameters: JsonObject = Field(
        {}, description="what the template's schema of parameters allows; defaults for the rest"
    )


class TemplateSummary(BaseModel):
    id: str
    name: str
    category: str
    tags: list[str]
    description: str


class TemplatePage(BaseModel):
    items: list[TemplateSummary]
    next_cursor: str | None


class Template(TemplateSummary):
    """`[[parameters.NAME]]` and `[[agents.PART]]` in agents and workflow are filled in when it is instantiated."""

    parameters: JsonObject
    agents: dict[str, JsonObject]
    workflow: JsonObject
    example: Any = Field(description="an input that it runs on")


class TemplateInstance(Workflow):
    """`agents` are the ones that it uses, registered for this tenant; `example` is an input that it runs on."""

    template_id: str
    agents: list[str]
    example: Any
