"""What the offline model answers at a service desk: sure of what is routine, less sure of what is not, by tier."""

from typing import Any

import orjson
import pytest
from handrail.offline_desk import TOPICS, filled
from handrail.offline_model import Call, by_rule
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

Json = dict[str, Any]
FORM: Json = {
    "type": "object",
    "properties": {
        "response": {"type": "string", "minLength": 1},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "escalate": {"type": "boolean"},
        "reason": {"type": "string", "minLength": 1},
    },
    "required": ["response", "confidence", "escalate", "reason"],
    "additionalProperties": False,
}
CLASSIFIER: Json = {
    "type": "object",
    "properties": {"topic": {"type": "string"}, "specialty": {"type": "string"}, "confidence": {"type": "number"}},
    "required": ["topic", "confidence"],
    "additionalProperties": False,
}
TIERS = ("Frontline", "Specialist", "Expert")


def answered(inquiry: str, **told: Any) -> Json:
    said = filled(FORM, {"inquiry": inquiry, "customer_id": "c", "tier": "Frontline", **told})
    assert said is not None
    return said


def confidences(inquiry: str) -> list[float]:
    return [answered(inquiry, tier=tier)["confidence"] for tier in TIERS]


@pytest.mark.parametrize(
    ("inquiry", "says"),
    [
        ("I can't log in any more", "new password"),
        ("How do I reset my PASSWORD?", "new password"),
        ("I use a password manager and my login fails", "new password"),
        ("Where do I find my invoice?", "invoices"),
        ("What is the status of my refund?", "refund"),
        ("What are your opening hours?", "Monday"),
        ("I opened my parcel", "parcel"),
        ("When does my parcel ship?", "parcel"),
        ("I need help with my account", "Settings"),
    ],
)
def test_what_is_routine_is_answered_by_the_first_tier(inquiry: str, says: str) -> None:
    said = answered(inquiry)
    assert says in said["response"]
    assert (said["confidence"], said["escalate"]) == (0.9, False)


@pytest.mark.parametrize("what", ["The API integration fails", "Our architecture", "A migration", "An outage"])
def test_what_is_technical_and_complex_takes_the_last_tier(what: str) -> None:
    assert confidences(f"{what} after the login change") == [0.4, 0.65, 0.85]


def test_what_is_complex_otherwise_takes_a_specialist() -> None:
    assert confidences("I dispute this invoice") == [0.4, 0.8, 0.85]


def test_anything_else_is_answered_with_less_certainty() -> None:
    assert confidences("It was a rapid, illegible thing") == [0.75] * 3, "words count from their beginning"


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    "inquiry",
    [
        "My lawyer says it is a legal matter", "I am preparing a lawsuit", "There was data loss in the API",
        "You lost all our data", "Let me speak to a human about my invoice", "Get me your manager",
    ],
)  # fmt: skip
def test_what_is_for_people_is_escalated_by_every_tier_with_a_reason(inquiry: str, tier: str) -> None:
    said = answered(inquiry, tier=tier)
    assert said["escalate"]
    assert said["reason"].startswith("for a person: ")
    assert said["confidence"] < 0.4


@pytest.mark.parametrize(
    ("told", "confidence"),
    [
        ({"tier": 0}, 0.4),
        ({"tier": 1}, 0.65),
        ({"tier": 7}, 0.85),
        ({"tier": "expert"}, 0.85),
        ({"tier": "Engineering"}, 0.4),
        ({"tier": "Engineering", "earlier": [{"reason": "a"}]}, 0.65),
        ({"tier": "Engineering", "earlier": [None, {"reason": "a"}, {"reason": "b"}]}, 0.85),
        ({"tier": None, "earlier": None}, 0.4),
        ({"tier": "Expert", "tier_number": 1, "tiers": 1}, 0.4),
        ({"tier": "Support", "tier_number": 1, "tiers": 2}, 0.4),
        ({"tier": "Engineering", "tier_number": 2, "tiers": 2}, 0.85),
        ({"tier": "Technical", "tier_number": 3, "tiers": 5}, 0.65),
    ],
)
def test_the_tier_is_told_by_its_number_its_name_its_index_or_who_answered_before(
    told: Json, confidence: float
) -> None:
    assert answered("Our integration is broken", **told)["confidence"] == confidence


def test_a_later_tier_says_what_the_one_before_was_not_sure_of() -> None:
    before = answered("Our integration is broken")
    said = answered("Our integration is broken", tier="Specialist", earlier=[before])
    assert "My colleagues have looked at it first (complex: integration)." in said["response"]


def test_what_the_customer_wrote_before_is_remembered_by_topic() -> None:
    history = [
        {"inquiry": "My invoice is wrong", "topic": "billing", "response": "..."},
        {"inquiry": "The legal department calls", "response": "..."},
    ]
    said = answered("Where is my refund?", history=history)
    assert said["response"].startswith('You wrote to us about billing before ("My invoice is wrong").')
    assert not said["escalate"], "what was written before is not judged again"
    again = answered("As I wrote before, nobody answers", history=history[:1])
    assert "about billing before" in again["response"]
    assert "your billing question" in again["response"]
    assert answered("As I wrote before", history=history[:1], topic="general")["response"] in again["response"]
    assert "before" not in answered("Where is my refund?", history=[])["response"]


@pytest.mark.parametrize(
    ("inquiry", "topic"),
    [
        ("My invoice shows the wrong amount", "billing"),
        ("The API throws an error", "technical"),
        ("I forgot my password", "account"),
        ("Where is my parcel?", "shipping"),
        ("You will hear from my lawyer about the invoice, it is a legal matter", "legal"),
        ("Hello there", "general"),
    ],
)
def test_an_inquiry_is_classified_by_its_words(inquiry: str, topic: str) -> None:
    sure = 0.5 if topic == "general" else 0.9
    expected = {"topic": topic, "specialty": topic, "confidence": sure}
    assert filled(CLASSIFIER, {"inquiry": inquiry}) == expected
    assert filled(CLASSIFIER, inquiry) == expected, "as a text"


@pytest.mark.parametrize(
    ("inquiry", "topic"),
    [("A question on sailing boats", "sailing"), ("My invoice", "other"), ("I forgot my password", "account")],
)
def test_a_topic_is_one_that_the_form_allows(inquiry: str, topic: str) -> None:
    allowed = {"type": "string", "enum": ["sailing", "account", "other"]}
    form = {"type": "object", "properties": {"topic": allowed, "confidence": {"type": "number"}}}
    said = filled(form, {"inquiry": inquiry})
    assert said == {"topic": topic, "confidence": 0.5 if topic == "other" else 0.9}, "and no field that it lacks"


def test_other_forms_are_not_the_desks() -> None:
    assert filled({"properties": {"response": {}, "confidence": {}}}, "x") is None
    assert filled({}, "x") is None


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
FIELDS = ("inquiry", "topic", "tier", "tier_number", "tiers", "history", "earlier")


@given(st.one_of(ANYTHING, st.dictionaries(st.sampled_from(FIELDS), ANYTHING)))
def test_whatever_is_told_the_forms_are_filled(told: Any) -> None:
    Draft202012Validator(FORM).validate(filled(FORM, told))
    said = filled(CLASSIFIER, told)
    Draft202012Validator(CLASSIFIER).validate(said)
    assert said is not None
    assert isinstance(told, dict) or said["topic"] in (*TOPICS, "general")


def test_the_model_answers_so_when_the_form_is_wanted() -> None:
    told = {"inquiry": "Where is my invoice?", "tier": "Frontline", "history": [], "earlier": []}
    final = {"type": "function", "function": {"name": "final_answer", "parameters": FORM}}
    said = orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()
    reply = by_rule(Call(model="desk", messages=[{"role": "user", "content": said}], tools=[final]))
    [wanted] = reply.tool_calls
    assert wanted.arguments == filled(FORM, told)
