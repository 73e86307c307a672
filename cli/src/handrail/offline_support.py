"""What the offline model says in customer support: rules in place of understanding, for the demo and the tests.

A form that asks for a category and a sentiment is filled by the words of the ticket; one that asks for an action and its data
is an answer to the ticket's sender, and, if people have sent it back, one that has in it what they asked for.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

CATEGORIES = {
    "technical": ("login", "password", "error", "crash", "bug", "not work", "can't", "cannot"),
    "billing": ("invoice", "charge", "refund", "payment", "bill"),
}
ADVICE = {
    "technical": "Your password reset link has been sent to your e-mail.\n\nPlease follow these steps:\n"
    "1. Check your e-mail (including the spam folder)\n2. Click the reset link\n3. Set a new password\n4. Try logging in again",
    "billing": "We have looked at your invoice and will correct what is wrong with it within two working days.",
    "general": "We have read your message and will see to it.",
}
URGENT = ("urgent", "asap", "immediately", "today", "deadline", "!")
ANGRY = ("frustrat", "angry", "unacceptable", "again", "!")
LINK = "https://help.example.com/password-reset"


def filled(schema: Mapping[str, Any], told: Any) -> dict[str, Any] | None:
    """None for a form that is none of support's. `told` is what the model was given, read as JSON if it is that."""
    wanted = set(schema.get("properties", {}))
    if {"category", "sentiment"} <= wanted:
        return {name: value for name, value in analysis(told).items() if name in wanted}
    if {"action", "suggested_data"} <= wanted:
        actions = schema["properties"]["action"].get("enum") or ["send_response_email"]
        return suggestion(actions[0], told)
    return None


def analysis(told: Any) -> dict[str, Any]:
    text = " ".join(texts(told)).lower()
    category = next((name for name, words in CATEGORIES.items() if any(word in text for word in words)), "general")
    urgent = any(word in text for word in URGENT)
    return {
        "category": category,
        "urgency": "high" if urgent else "normal",
        "sentiment": "frustrated" if any(word in text for word in ANGRY) else "neutral",
        "customer_name": found(told, "name", "customer_name") or "there",
        "customer_email": found(told, "from", "customer_email", "recipient") or "",
        "subject": found(told, "subject") or "Your message",
    }


def suggestion(action: str, told: Any) -> dict[str, Any]:
    """Its data answer the ticket, if an e-mail can be made of it; the action is the first that is allowed."""
    seen, comments = analysis(told), remarks(told)
    if "mail" not in action:
        why = f"The issue is {seen['category']} and routine; the customer is {seen['sentiment']}. No escalation needed."
        return {"action": action, "reasoning": why, "confidence": 0.99, "suggested_data": {}, "comment": ""}
    first_name = (seen["customer_name"].split() or ["there"])[0]
    parts = [f"Hi {first_name},", f"Thank you for reaching out. {ADVICE[seen['category']]}"]
    parts += [wished(comment) for comment in comments]
    parts += [
        "If you continue to experience issues, please reply to this e-mail.",
        "Best regards,\nCustomer Support Team",
    ]
    data = {
        "recipient": seen["customer_email"],
        "subject": f"Re: {seen['subject']}",
        "body": "\n\n".join(parts),
        "in_reply_to": found(told, "message_id") or "",
    }
    return {
        "action": action,
        "reasoning": f"A {seen['category']} problem with a known answer. The draft is ready.",
        "confidence": 0.97 if comments else 0.95,
        "suggested_data": data,
        "comment": f"Updated as you asked: {comments[-1]}" if comments else "",
    }


def wished(comment: str) -> str:
    """A sentence that does what a comment asks for."""
    link = re.search(r"https?://\S+", comment)
    if link or "link" in comment.lower():
        return f"You find more in our help article: {link.group().rstrip('.,)') if link else LINK}"
    return comment


def remarks(told: Any) -> list[str]:
    """What people said when they sent the last suggestion back."""
    comments = told.get("comments") if isinstance(told, dict) else None
    return [str(comment["text"]) for comment in comments or () if isinstance(comment, dict) and "text" in comment]


def texts(told: Any) -> Iterator[str]:
    if isinstance(told, Mapping):
        for name, value in told.items():
            if name != "suggestion":
                yield from texts(value)
    elif isinstance(told, list):
        for value in told:
            yield from texts(value)
    elif isinstance(told, str):
        yield told


def found(told: Any, *names: str) -> str | None:
    """The first text under one of the names, however deep; what was suggested before is no source."""
    if isinstance(told, Mapping):
        for name in names:
            if isinstance(told.get(name), str) and told[name]:
                return str(told[name])
        for name, value in told.items():
            if name != "suggestion" and (deep := found(value, *names)):
                return deep
    elif isinstance(told, list):
        for value in told:
            if deep := found(value, *names):
                return deep
    return None
