"""The builder: steps, canvas, forms, resources."""

from typing import Literal

from handrail_graph import MAX_STEPS
from pydantic import BaseModel, Field

from handrail_gateway.schemas.base import JsonObject, Name, Request
from handrail_gateway.schemas.servers import Server, Tool


class StepTypes(BaseModel):
    step_types: dict[str, JsonObject] = Field(description="JSON Schema of each type's parameters")
    common: JsonObject = Field(description="JSON Schema of what every step has besides")


class Converted(BaseModel):
    document: JsonObject | None
    lost: list[str] = Field(description="what the other dialect has no words for")


class Position(Request):
    x: float = Field(ge=-1e6, le=1e6)
    y: float = Field(ge=-1e6, le=1e6)


class CanvasNode(BaseModel):
    id: str
    type: str
    name: str
    position: Position
    step: JsonObject


class CanvasEdge(BaseModel):
    id: str
    source: str
    target: str
    kind: Literal["next", "else", "case", "error", "compensation"]
    label: str


class Canvas(BaseModel):
    workflow_id: str
    version: int
    nodes: list[CanvasNode]
    edges: list[CanvasEdge]


class CanvasRequest(Request):
    positions: dict[str, Position] = Field(max_length=MAX_STEPS)


class StepAdded(Request):
    step: JsonObject
    after: str | None = Field(None, max_length=200, description="a step that then leads to the new one")


class StepReplaced(Request):
    step: JsonObject


class Reorder(Request):
    step_ids: list[str] = Field(min_length=1, max_length=MAX_STEPS)


class Connection(Request):
    target: str = Field(min_length=1, max_length=200)
    kind: Literal["next", "else", "error"] = "next"
    connected: bool = Field(True, description="false takes the connection away")


class CopyRequest(Request):
    name: Name | None = None


class ToolList(BaseModel):
    items: list[Tool]


class ServerList(BaseModel):
    items: list[Server]
