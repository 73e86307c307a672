"""JSON Schema of what steps are made of, for forms to be drawn from. `READERS` judge; a test holds the two together."""

from collections.abc import Mapping
from typing import Any

from handrail_graph.graph import StepType
from handrail_graph.suggestions import ACTIONS
from handrail_graph.terms import PRIORITIES

Schema = dict[str, Any]


def _text(title: str, **more: Any) -> Schema:
    return {"type": "string", "title": title, **more}


def _number(title: str, **more: Any) -> Schema:
    return {"type": "number", "title": title, **more}


def _choice(title: str, *values: str) -> Schema:
    return {"type": "string", "title": title, "enum": list(values), "default": values[0]}


def _template(title: str, **more: Any) -> Schema:
    """Any JSON; texts in it may hold expressions."""
    return {"title": title, "format": "template", **more}


def _object(properties: Mapping[str, Schema], *required: str, **more: Any) -> Schema:
    return {
        "type": "object", "properties": dict(properties), "required": list(required), "additionalProperties": False, **more,
    }  # fmt: skip


_STEPS: Schema = {"type": "array", "items": {"type": "string"}, "format": "steps"}
_TIMEOUT = _number("Time-out of an attempt in seconds", exclusiveMinimum=0)
_AGENT = _text("Agent", format="agent")
_CAPABILITIES: Schema = {
    "type": "array", "items": {"type": "string"}, "minItems": 1, "title": "Or whichever agent has these capabilities",
    "format": "capabilities",
}  # fmt: skip
_STRATEGY = _choice("Whom of several", "least_loaded", "round_robin")
_CHOOSE: Schema = {
    "title": "How one of several is chosen",
    "anyOf": [
        _STRATEGY,
        _object({"strategy": _STRATEGY, "prefer": _text("Field of the input that names a specialty")}),
    ],
}
_CONDITION = _text("Condition", format="expression", examples=["{{input.priority}} == 'high'"], maxLength=4096)

_ACTION: Schema = {
    "anyOf": [
        {"enum": list(ACTIONS)},
        _object(
            {
                "type": _choice("Carried out by", *ACTIONS),
                "url": _text("Address"),
                "tool": _text("Tool", format="tool"),
            },
            "type",
        ),
    ]
}
_GATE: Schema = {
    "approvers": {"type": "array", "title": "Approvers", "items": {"type": "string"}, "default": []},
    "message": _text("Message", maxLength=10_000),
    "timeout_hours": _number("Hours until the deadline", minimum=0),
    "timeout_seconds": _number("Or seconds", minimum=0),
    "on_timeout": _choice("At the deadline", "fail", "reject"),
    "on_reject": _choice("If rejected", "fail", "continue"),
}
_PEOPLE: Schema = {"type": "array", "items": {"type": "string"}, "default": []}
_RULES: Schema = {
    "require": {
        "title": "Who has to approve",
        "anyOf": [{"enum": ["any", "all", "in_order"]}, {"type": "integer", "minimum": 1, "maximum": 100}],
        "default": "any",
    },
    "priority": {"title": "Priority", "enum": ["low", "medium", "high", "urgent"], "default": "medium"},
    "assign": {"type": "boolean", "title": "Assign a reviewer", "default": False},
    "specialties": {**_PEOPLE, "title": "Who knows about"},
    "four_eyes": {"type": "boolean", "title": "Not by whoever started it", "default": False},
    "remind_after_hours": {"type": "array", "title": "Remind after hours", "items": {"type": "number"}, "default": []},
    "remind_after_seconds": {"type": "array", "title": "Or seconds", "items": {"type": "number"}, "default": []},
    "escalation": {
        "type": "array",
        "title": "Who is asked instead",
        "items": _object(
            {
                "after_hours": _number("After hours", minimum=0),
                "after_seconds": _number("Or seconds", minimum=0),
                "approvers": {**_PEOPLE, "title": "People"},
                "specialties": {**_PEOPLE, "title": "Or reviewers who know about"},
            }
        ),
        "default": [],
    },
    "attachments": {
        "type": "array",
        "title": "What belongs to it",
        "items": _object({"name": _text("Name"), "url": _text("Address")}, "name", "url")
        | {"additionalProperties": True},
        "default": [],
    },
    "notify": {"type": "boolean", "title": "Tell them by e-mail"},
    "callback": _text("Webhook to call once it is decided", maxLength=4096),
}
_SUGGESTION = _object(
    {
        **_GATE,
        **_RULES,
        "actions": {"type": "object", "title": "Actions that it may suggest", "additionalProperties": _ACTION},
        "auto_approve": {
            "type": "object",
            "title": "Actions that need nobody, from this confidence on",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "max_revisions": {"type": "integer", "title": "Most revisions", "minimum": 0, "maximum": 1000, "default": 20},
    }
)

PARAMETERS: Mapping[StepType, Schema] = {
    StepType.TRIGGER: _object(
        {
            "kind": _choice("What starts the workflow", "api", "chat", "schedule", "webhook", "event"),
            "cron": _text("Cron expression", examples=["0 9 * * 1-5"], description="minute hour day month weekday"),
            "timezone": _text("Time zone", default="UTC", examples=["Europe/Berlin"]),
            "every_seconds": _number("Or every so many seconds", minimum=1),
            "start_at": _text("Not before", format="date-time"),
            "end_at": _text("Not after", format="date-time"),
            "overlap": _choice("If the run before is still open", "skip", "allow", "queue", "cancel_old"),
            "missed": _choice("Due times that were missed", "run_once", "run_all", "skip"),
            "input": _template("Input of each run"),
            "event": _text("Event", examples=["new_support_ticket"]),
            "source": _text("Only from this source", examples=["email"]),
            "condition": _text("Only if", format="expression", maxLength=4096),
        }
    ),
    StepType.AGENT_EXECUTION: _object(
        {
            "agent_id": _AGENT,
            "agent": _AGENT | {"description": "the same as agent_id"},
            "capabilities": _CAPABILITIES,
            "choose": _CHOOSE,
            "input": _template("Input", default="{{previous_output}}"),
            "max_iterations": {"type": "integer", "title": "Most iterations", "minimum": 1, "maximum": 1000},
            "timeout_seconds": _TIMEOUT,
            "suggestion": {
                "title": "It suggests an action, and a person decides",
                "default": False,
                "anyOf": [{"type": "boolean"}, _SUGGESTION],
            },
        },
        anyOf=[{"required": ["agent_id"]}, {"required": ["agent"]}, {"required": ["capabilities"]}],
    ),
    StepType.TOOL_CALL: _object(
        {
            "tool": _text("Tool", format="tool", examples=["word_count", "gmail-server:send_email"]),
            "tool_name": _text("Tool", description="the same as tool"),
            "arguments": _template("Arguments", default={}),
            "timeout_seconds": _TIMEOUT,
            "ask_first": {
                "title": "A person has to allow it",
                "default": False,
                "anyOf": [{"type": "boolean"}, _object(_GATE | _RULES)],
            },
        },
        anyOf=[{"required": ["tool"]}, {"required": ["tool_name"]}],
    ),
    StepType.SUB_WORKFLOW: _object(
        {
            "workflow_id": _text("Workflow", format="workflow"),
            "version": {"type": "integer", "title": "Version", "minimum": 1, "description": "the newest if absent"},
            "input": _template("Input", default="{{previous_output}}"),
            "timeout_seconds": _TIMEOUT,
        },
        "workflow_id",
    ),
    StepType.API_CALL: _object(
        {
            "url": _text("Address", examples=["https://example.com/orders/{{input.id}}"], maxLength=4096),
            "method": _choice("Method", "POST", "GET", "PUT", "PATCH", "DELETE", "HEAD"),
            "headers": _template("Headers", type="object", default={}),
            "body": _template("Body"),
            "expected_status": {
                "title": "Expected status codes",
                "anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}],
            },
            "timeout_seconds": _TIMEOUT,
        },
        "url",
    ),
    StepType.CONDITION: _object({"condition": _CONDITION}, "condition"),
    StepType.SWITCH: _object(
        {
            "cases": {
                "type": "array",
                "title": "Cases",
                "minItems": 1,
                "items": _object({"condition": _CONDITION, "next_steps": _STEPS}, "condition"),
            },
            "mode": _choice("Take", "first", "all"),
        },
        "cases",
    ),
    StepType.PARALLEL: _object({"error_policy": _choice("If a branch fails", "fail_fast", "wait_all", "ignore")}),
    StepType.LOOP: _object(
        {
            "over": _template("Run over", examples=["{{input.items}}"]),
            "until": _text("Or until", format="expression", examples=["{{loop.last.done}}"], maxLength=4096),
            "steps": {"type": "array", "title": "Steps of each turn", "minItems": 1, "items": {"type": "object"}},
            "max_parallel": {
                "type": "integer",
                "title": "Turns side by side",
                "minimum": 1,
                "maximum": 1000,
                "default": 1,
            },
            "max_iterations": {"type": "integer", "title": "Most turns", "minimum": 1, "maximum": 100_000},
        },
        "steps",
        oneOf=[{"required": ["over"]}, {"required": ["until"]}],
    ),
    StepType.DELAY: _object(
        {
            "seconds": _template("Seconds"),
            "minutes": _template("Minutes"),
            "hours": _template("Hours"),
            "delay_seconds": _template("Seconds", description="the same as seconds"),
            "duration_seconds": _template("Seconds", description="the same as seconds"),
        },
        minProperties=1,
        maxProperties=1,
    ),
    StepType.DATA_TRANSFORM: _object(
        {
            "output": _template("Output"),
            "mapping": _template("Output", description="the same as output"),
            "expression": _text("Output as one expression", format="expression"),
        },
        minProperties=1,
        maxProperties=1,
    ),
    StepType.HUMAN_APPROVAL: _object(
        {
            "approvers": {"type": "array", "title": "Approvers", "items": {"type": "string"}, "default": []},
            "message": _text("Message", format="template", maxLength=10_000),
            "show": _template("What they see", default="{{previous_output}}"),
            "timeout_hours": _number("Hours until the deadline", minimum=0),
            "timeout_seconds": _number("Or seconds", minimum=0),
            "on_timeout": _choice("At the deadline", "fail", "reject", "approve"),
            "on_reject": _choice("If rejected", "fail", "continue"),
            **_RULES,
        }
    ),
    StepType.SIGNAL: _object(
        {
            "name": _text("Signal", maxLength=100),
            "on_timeout": _choice("At the time-out", "fail", "continue"),
            "timeout_seconds": _number("Time-out in seconds", exclusiveMinimum=0),
        },
        "name",
    ),
}

COMMON: Schema = _object(
    {
        "step_id": _text("Id", pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"),
        "step_type": {"type": "string", "title": "Type", "enum": [kind.value for kind in StepType]},
        "name": _text("Name", maxLength=200),
        "parameters": {"type": "object", "title": "Parameters"},
        "next_steps": _STEPS | {"title": "Next steps"},
        "else_steps": _STEPS | {"title": "Else (of a condition or switch)"},
        "error_steps": _STEPS | {"title": "If it fails, these begin instead"},
        "on_error": _choice("If it fails", "fail", "continue", "wait"),
        "compensate_with": _text("Undone by", format="step"),
        "join": {
            "title": "Begins when these many came",
            "default": "all",
            "anyOf": [{"enum": ["all", "any"]}, {"type": "integer", "minimum": 1}],
        },
        "cancel_rest": {"type": "boolean", "title": "Then give up the rest", "default": False},
        "retry": _object(
            {
                "max_attempts": {
                    "type": "integer",
                    "title": "Most attempts",
                    "minimum": 1,
                    "maximum": 100,
                    "default": 1,
                },
                "backoff_seconds": _number("Back-off in seconds", minimum=0, default=1),
                "multiplier": _number("Multiplier", minimum=1, maximum=100, default=2),
                "max_backoff_seconds": _number("Longest back-off", minimum=0, default=300),
                "jitter": _number("Jitter", minimum=0, maximum=1, default=0.1),
            },
            title="Retry",
        ),
        "timeout_seconds": _TIMEOUT,
        "priority": {"enum": list(PRIORITIES), "title": "Priority as a task"},
        "due_date": _text("Due", format="date-time"),
        "due_in_seconds": _number("Or so many seconds after the start", minimum=0),
        "metadata": {"type": "object", "title": "What else people are told of the task"},
    },
    "step_id",
    "step_type",
)
