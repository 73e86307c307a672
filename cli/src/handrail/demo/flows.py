"""The definitions that the demo runs, in the words of the guides they come from."""

from typing import Any

CONTENT_MARKETING: dict[str, Any] = {
    "name": "Content Marketing Pipeline",
    "tasks": [
        {"agent": "marketing_content_agent_1_101", "input": {"topic": "AI in healthcare", "format": "blog_post"}},
        {
            "agent": "marketing_seo_agent_1_102",
            "input": {"content": "{{previous_output}}", "target_keywords": ["AI healthcare"]},
        },
        {
            "agent": "marketing_social_media_agent_1_103",
            "input": {"content": "{{previous_output}}", "platforms": ["twitter", "linkedin"]},
        },
    ],
}

CUSTOMER_SUPPORT: dict[str, Any] = {
    "name": "Customer Support Agent",
    "description": "Handle customer inquiries",
    "steps": [
        {"step_id": "trigger", "step_type": "trigger", "parameters": {"kind": "chat"}, "next_steps": ["triage"]},
        {
            "step_id": "triage",
            "step_type": "agent_execution",
            "parameters": {"agent_id": "support_triage_agent", "input": {"message": "{{input.current_message}}"}},
            "retry": {"max_attempts": 3, "backoff_seconds": 1},
            "next_steps": ["check_priority"],
        },
        {
            "step_id": "check_priority",
            "step_type": "condition",
            "parameters": {"condition": "{{steps.triage.output.urgent}} == true"},
            "next_steps": ["draft"],
            "else_steps": ["standard_response"],
        },
        {
            "step_id": "draft",
            "step_type": "agent_execution",
            "parameters": {
                "agent_id": "support_reply_agent",
                "input": {"customer": "{{context.customer_id}}", "category": "{{steps.triage.output.category}}"},
            },
            "next_steps": ["approval"],
        },
        {
            "step_id": "approval",
            "step_type": "human_approval",
            "parameters": {
                "approvers": ["manager@example.com"],
                "timeout_hours": 24,
                "message": "Send this to {{context.customer_id}}?",
                "show": "{{steps.draft.output}}",
            },
            "next_steps": ["send"],
        },
        {
            "step_id": "send",
            "step_type": "agent_execution",
            "parameters": {"agent_id": "support_send_agent", "input": {"draft": "{{steps.draft.output}}"}},
        },
        {
            "step_id": "standard_response",
            "step_type": "data_transform",
            "parameters": {"output": {"response": "Thank you, we will write within a day."}},
        },
    ],
}

INQUIRY: dict[str, Any] = {
    "trigger": {
        "kind": "chat",
        "current_message": "I was charged twice and want a refund",
        "history": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi! How can I help?"},
        ],
    },
    "user_id": "user-123",
    "session_id": "session-456",
    "context": {"customer_id": "cust-789"},
}
