"""Suggestions: an agent proposes, people send back, correct, approve or reject, and the action happens."""

from typing import Any
from uuid import uuid4

import pytest
from handrail_contracts import topics
from handrail_contracts.approvals import (
    ApprovalDecided,
    ApprovalWithdrawn,
    Suggestion,
    SuggestionCreated,
    SuggestionRevisionRequested,
)
from handrail_contracts.budgets import BudgetAsked
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.steps import AgentAdvanced, AgentExecuted, StepRequested, ToolAsked, ToolResult
from handrail_scheduler.liveness import stuck
from unit.stories import EXECUTION, Workflow, agent

BROKEN = ErrorInfo(code="TOOL_ERROR", message="no mail server", retryable=True)
MAIL = {"recipient": "jane@example.com", "subject": "Re", "body": "Hi"}
DRAFT = {"action": "send", "reasoning": "easy", "confidence": 0.9, "suggested_data": MAIL}
SENT = {"status": "sent", "delivery_id": "m1"}


class Suggesting(Workflow):
    def __init__(self, rules: Any = None, **options: Any) -> None:
        suggestion = {"actions": {"send": "email", "close": "none"}, "approvers": ["sarah"], **(rules or {})}
        draft = agent("draft", "after", parameters={"suggestion": suggestion}, **options)
        super().__init__(draft, agent("after"), input="the ticket")

    def suggestions(self) -> list[SuggestionCreated]:
        return [message for message in self.said if isinstance(message, SuggestionCreated)]

    def decide(self, decision: Any = "approved", **fields: Any) -> list[str]:
        message = ApprovalDecided(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=EXECUTION, workflow_id="w", step_id="draft",
            approval_id=self.suggestions()[-1].suggestion_id, decision=decision, decided_by="sarah", **fields,
        )  # fmt: skip
        return self.put(topics.APPROVAL_DECIDED, message)

    def comment(self, text: str, revision: int = 1) -> list[str]:
        message = SuggestionRevisionRequested(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=EXECUTION, workflow_id="w", user_id="sarah",
            step_id="draft", suggestion_id=self.suggestions()[-1].suggestion_id, agent="a", revision=revision, comment=text,
        )  # fmt: skip
        return self.put(topics.SUGGESTION_REVISION_REQUESTED, message)

    def asked(self) -> StepRequested:
        return self.requests()[-1]


def test_from_the_draft_over_a_comment_to_the_sent_mail() -> None:
    story = Suggesting()
    schema = story.asked().answer_schema
    assert schema is not None
    assert schema["properties"]["action"]["enum"] == ["send", "close"]
    assert story.answer("draft", DRAFT) == ["suggestion.made", "execution.status_changed"]
    [first] = story.suggestions()
    assert (first.approvers, first.revision, first.suggested_data) == (("sarah",), 1, MAIL)

    assert story.comment("add a link") == ["suggestion.sent_back", "step.started", "execution.status_changed"]
    revising = story.asked()
    assert revising.input == {
        "input": "the ticket",
        "suggestion": DRAFT,
        "comments": [{"author": "sarah", "text": "add a link"}],
    }
    assert revising.run_id != story.requests()[0].run_id, "the agent must not think that it has answered this before"
    story.answer("draft", {**DRAFT, "comment": "there it is"})
    second = story.suggestions()[-1]
    assert (second.suggestion_id, second.revision, second.comment) == (first.suggestion_id, 2, "there it is")

    assert story.decide(comment="send it")[:2] == ["suggestion.approved", "step.started"]
    action = story.asked()
    assert (action.kind, action.agent, action.input) == ("action", "send", MAIL)
    assert action.action is not None and action.action.type == "email"
    assert story.answer("draft", SENT)[:2] == ["action.executed", "step.completed"]
    output = story.events[-2]["output"] if story.events[-2]["type"] == "step.completed" else story.events[-3]["output"]
    assert output["result"] == {"type": "email_sent", "details": SENT}
    assert (output["decided_by"], output["revision"], output["approved"]) == ("sarah", 2, True)
    assert story.asked().step_id == "after"


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("text", "Input should be"),
        ({"action": "send", "confidence": 2}, "confidence"),
        ({**DRAFT, "action": "wire_money"}, "'wire_money' is none of those that it may suggest: send, close"),
    ],
)
def test_what_is_no_suggestion_or_not_allowed_is_a_failed_attempt(output: Any, why: str) -> None:
    story = Suggesting()
    story.answer("draft", output)
    [failed] = [event for event in story.events if event["type"] == "step.failed"]
    assert why in failed["error"]["message"]
    assert not story.suggestions()


def test_what_a_person_made_of_it_is_what_happens() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.decide(data={**MAIL, "body": "Dear Jane"})
    assert story.asked().input["body"] == "Dear Jane"


def test_an_action_that_is_nobodys_is_done_with_the_approval() -> None:
    story = Suggesting()
    story.answer("draft", {**DRAFT, "action": "close"})
    assert story.decide()[:2] == ["suggestion.approved", "step.completed"]


@pytest.mark.parametrize(("rules", "last"), [({}, "execution.failed"), ({"on_reject": "continue"}, "step.started")])
def test_rejected_it_fails_or_goes_on_without_the_action(rules: Any, last: str) -> None:
    story = Suggesting(rules)
    story.answer("draft", DRAFT)
    assert story.decide("rejected", comment="no")[-1] in (last, "execution.status_changed")
    assert all(request.kind != "action" for request in story.requests())
    if rules:
        assert story.asked().step_id == "after"


def test_an_action_that_fails_is_tried_again_and_the_agent_is_not() -> None:
    story = Suggesting(retry={"max_attempts": 2, "backoff_seconds": 1})
    story.answer("draft", DRAFT)
    story.decide()
    first = story.asked()
    assert story.answer("draft", error=BROKEN)[0] == "step.retry_scheduled", "the agent's attempt is not counted"
    story.wait(10)
    again = story.asked()
    assert (again.kind, again.run_id, again.input) == ("action", first.run_id, MAIL)
    assert again.attempt == first.attempt + 1
    assert story.answer("draft", error=BROKEN)[0] == "step.failed"


def test_an_unknown_outcome_waits_for_a_person() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.decide()
    story.answer("draft", error=ErrorInfo(code="OUTCOME_UNKNOWN", message="sent?"))
    assert story.control("retry", step_id="draft")[:2] == ["step.steered", "step.started"]
    assert story.asked().kind == "action"


def test_decided_while_the_agent_revises_what_people_saw_counts() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.comment("shorter")
    revising = story.asked()
    story.decide()
    assert story.asked().kind == "action"
    assert story.answer("draft", DRAFT, attempt=revising.attempt) == [], "too late"


def test_what_people_saw_happens_and_not_what_the_agent_has_made_of_it_meanwhile() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.comment("shorter")
    story.answer("draft", {**DRAFT, "action": "close", "suggested_data": {"body": "nobody has seen this"}})
    story.decide(revision=1)
    assert (story.asked().kind, story.asked().agent, story.asked().input) == ("action", "send", MAIL)
    story.answer("draft", SENT)
    [output] = [event["output"] for event in story.events if event["type"] == "step.completed"]
    assert (output["action"], output["revision"]) == ("send", 1)


def test_an_action_knows_nothing_of_what_its_agent_called_on_the_way() -> None:
    story = Calling(parameters={"suggestion": {"actions": {"send": "email"}}})
    story.answer("draft", DRAFT)
    story.comment("shorter")
    story.ask("c1")
    story.advance(0, result=ToolResult(call_id="c1", content="looked up"))
    story.decide()
    assert (story.asked().kind, story.asked().turns) == ("action", ())


def test_after_an_edit_neither_revision_nor_action_is_taken_for_the_one_before() -> None:
    story = Suggesting()
    for _ in range(2):
        story.answer("draft", DRAFT)
        story.comment("shorter")
        story.answer("draft", DRAFT)
        story.decide()
        story.control("edit", step_id="draft", data="another ticket")
    runs = [request.run_id for request in story.requests() if request.kind == "action" or "comments" in request.input]
    assert len(set(runs)) == 4


def test_an_open_suggestion_stays_with_the_rules_that_people_were_told() -> None:
    story = Suggesting(retry={"max_attempts": 2, "backoff_seconds": 1})
    story.answer("draft", DRAFT)
    story.decide()
    same = story.workflow["definition"]["steps"]
    story.define(agent("draft", "after", parameters={"suggestion": {"actions": {"close": "none"}}}), agent("after"))
    assert story.control("migrate", version=2) == []
    story.define(*same, agent("last"))
    assert story.control("migrate", version=3)[0] == "execution.version_changed"
    story.answer("draft", error=BROKEN)
    story.wait(10)
    assert story.asked().kind == "action"


def test_a_call_that_people_saw_is_made_and_the_next_one_asks() -> None:
    story = Calling()
    story.wish()
    story.comment("only half of it")
    story.ask("c2", 1, follows="one")
    story.wish("c2", amount=2)
    story.decide(revision=1)
    first, second = story.asked().turns
    assert (first.asked[0].granted, second.asked[0].granted) == ({"amount": 5}, None)
    story.wish("c2", amount=2)
    assert len({suggested.suggestion_id for suggested in story.suggestions()}) == 2


def test_a_comment_on_what_is_no_longer_so_changes_nothing() -> None:
    story = Suggesting({"max_revisions": 1})
    story.answer("draft", DRAFT)
    assert story.comment("about another", revision=2) == []
    story.comment("shorter")
    assert story.comment("and shorter") == []
    story.answer("draft", DRAFT)
    assert story.comment("once more", revision=2) == [], "it has revised as often as it may"
    assert [suggested.revisable for suggested in story.suggestions()] == [True, False]


def test_an_answer_that_comes_again_while_people_decide_changes_nothing() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    assert story.answer("draft", DRAFT) == []
    assert story.answer("draft", error=BROKEN) == []
    assert len(story.suggestions()) == 1


def test_paused_nothing_happens_before_it_is_resumed() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.control("pause")
    assert story.decide() == ["suggestion.approved"]
    assert story.asked().kind == "agent"
    story.control("resume")
    assert story.asked().kind == "action"


def test_in_a_loop_that_begins_again_people_are_asked_anew() -> None:
    body = [agent("draft", parameters={"suggestion": True}), agent("other")]
    loop = {"step_id": "each", "step_type": "loop", "parameters": {"over": "{{ [1] }}", "steps": body}}
    story = Suggesting.__new__(Suggesting)
    Workflow.__init__(story, {**loop, "retry": {"max_attempts": 2, "backoff_seconds": 1}})
    story.answer("each[0].draft", DRAFT)
    story.answer("each[0].other", error=ErrorInfo(code="VALIDATION_ERROR", message="no"))
    story.wait(10)
    story.answer("each[0].draft", DRAFT)
    first, second = story.suggestions()
    assert first.suggestion_id != second.suggestion_id, "its gate was closed"
    assert second.revision == 1


@pytest.mark.parametrize("failed", [False, True])
def test_decided_in_a_pause_while_the_agent_revises_it_happens_when_resumed(failed: bool) -> None:
    story = Suggesting(retry={"max_attempts": 2, "backoff_seconds": 1})
    story.answer("draft", DRAFT)
    story.comment("shorter")
    if failed:
        story.answer("draft", error=BROKEN)
    story.control("pause")
    story.decide()
    assert story.answer("draft", DRAFT) == []
    story.control("resume")
    action = story.asked()
    assert (action.kind, action.input) == ("action", MAIL)
    assert "step.completed" in story.answer("draft", SENT)


def test_approved_in_a_pause_while_the_agent_revises_it_happens_when_resumed() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.comment("shorter")
    revising = story.asked()
    story.control("pause")
    assert story.decide() == ["suggestion.approved"]
    [state] = story.machine.states.values()
    state = story.machine.core.unpack(state) if isinstance(state, bytes) else state
    assert not list(story.machine.core.outstanding(state, 0)), "nothing is asked of runners before its attempt begins"
    assert story.answer("draft", DRAFT) == [], "nobody waits for the revision"
    story.control("resume")
    assert (story.asked().kind, story.asked().attempt) == ("action", revising.attempt + 1)


def test_an_answer_that_comes_twice_leaves_the_decision_to_people() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    assert story.answer("draft", DRAFT) == []
    assert story.answer("draft", error=BROKEN) == []
    assert len(story.suggestions()) == 1


@pytest.mark.parametrize("decision", ["rejected", "expired"])
def test_decided_against_it_is_settled_also_if_the_step_waits_for_a_person(decision: str) -> None:
    story = Suggesting(on_error="wait")
    story.answer("draft", DRAFT)
    first = story.suggestions()[-1].suggestion_id
    assert story.decide(decision)[0] == "step.failed"
    assert (story.decide(decision), story.comment("shorter")) == ([], []), "that is over"
    story.control("retry", step_id="draft")
    story.answer("draft", DRAFT)
    second = story.suggestions()[-1]
    assert (second.suggestion_id != first, second.revision) == (True, 1), "people are asked about another one"
    assert story.decide()[0] == "suggestion.approved"


@pytest.mark.parametrize("how", ["cancel", "edit", "skip"])
def test_nobody_is_asked_for_what_is_needed_no_more(how: str) -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.control(how, **({} if how == "cancel" else {"step_id": "draft", "data": "new"}))
    [gone] = [message for message in story.said if isinstance(message, ApprovalWithdrawn)]
    assert gone.approval_id == story.suggestions()[0].suggestion_id
    if how == "edit":
        story.answer("draft", DRAFT)
        assert story.suggestions()[-1].suggestion_id != gone.approval_id
        assert story.decide()[0] == "suggestion.approved"


def test_a_revision_that_fails_for_good_takes_the_suggestion_back() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    story.comment("shorter")
    story.answer("draft", error=BROKEN)
    assert [message.approval_id for message in story.said if isinstance(message, ApprovalWithdrawn)] == [
        story.suggestions()[0].suggestion_id
    ]


def test_while_it_waits_the_execution_is_parked_and_has_a_named_blocker() -> None:
    story = Suggesting()
    story.answer("draft", DRAFT)
    core = story.machine.core
    [state] = story.machine.states.values()
    state = core.unpack(state) if isinstance(state, bytes) else state
    assert core.is_parked(state)
    assert stuck(state) is None
    assert core.unpack(core.pack(state)) == state


def test_a_suggestion_says_what_it_has_to() -> None:
    assert Suggestion.model_validate(DRAFT).comment == ""


class Calling(Suggesting):
    """An agent in the middle of a conversation wants to call a tool that asks first."""

    def __init__(self, **options: Any) -> None:
        Workflow.__init__(self, agent("draft", "after", **options), agent("after"), input="the ticket")
        self.ask("c1")

    def ask(self, call_id: str, turn: int = 0, follows: str = "") -> None:
        wish = ToolAsked(call_id=call_id, tool="refund", repeatable=False, ask=True)
        self.advance(turn, said={"text": "refund?"}, asked=(wish,), follows=follows)

    def advance(self, turn: int, holder: str = "one", **fields: Any) -> list[str]:
        request = self.asked()
        message = AgentAdvanced(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=EXECUTION, workflow_id="w", step_id="draft",
            run_id=request.run_id, attempt=request.attempt, agent="a", turn=turn, holder=holder, **fields,
        )  # fmt: skip
        return self.put(topics.AGENT_EXECUTED, message)

    def wish(self, call_id: str = "c1", **data: Any) -> list[str]:
        request = self.asked()
        wish = {"action": "refund", "confidence": 0, "suggested_data": data or {"amount": 5}}
        message = AgentExecuted(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=EXECUTION, workflow_id="w", step_id="draft",
            run_id=request.run_id, attempt=request.attempt, agent="a", status="suggested", output=wish, call_id=call_id,
        )  # fmt: skip
        return self.put(topics.AGENT_EXECUTED, message)


def test_an_allowed_call_is_made_by_the_run_that_wanted_it() -> None:
    story = Calling()
    first = story.asked()
    assert story.wish() == ["suggestion.made", "execution.status_changed"]
    story.decide(data={"amount": 4})
    again = story.asked()
    assert (again.run_id, again.kind, again.input) == (first.run_id, first.kind, first.input)
    [call] = again.turns[0].asked
    assert (call.granted, call.begun) == ({"amount": 4}, "")
    assert story.advance(0, "two", begun="c1") == ["step.advanced"]
    assert story.advance(0, "three", begun="c1") == [], "somebody has begun it"
    story.answer("draft", "refunded")
    assert story.asked().step_id == "after"


@pytest.mark.parametrize(("rules", "goes_on"), [(None, True), ({"on_reject": "continue"}, True), (True, False)])
def test_a_refused_call_is_told_in_place_of_its_result(rules: Any, goes_on: bool) -> None:
    story = Calling(parameters={} if rules is None else {"suggestion": rules})
    story.wish()
    story.decide("rejected", comment="too much")
    if goes_on:
        [result] = story.asked().turns[0].results
        assert result.error == "sarah has not allowed this: too much"
    else:
        assert [event["type"] for event in story.events if event["type"] == "step.failed"]


def test_a_comment_on_a_call_is_heard_by_the_model_which_may_want_another() -> None:
    story = Calling()
    story.wish()
    story.comment("only half of it")
    [result] = story.asked().turns[0].results
    assert result.error == "not done yet, sarah says: only half of it"
    story.ask("c2", 1, follows="one")
    story.wish("c2", amount=2)
    first, second = story.suggestions()
    assert (second.suggestion_id, second.revision, second.suggested_data) == (first.suggestion_id, 2, {"amount": 2})
    story.decide()
    assert story.asked().turns[1].asked[0].granted == {"amount": 2}


def test_what_is_suggested_after_a_call_was_allowed_is_another_suggestion() -> None:
    story = Calling(parameters={"suggestion": True})
    story.wish()
    story.decide()
    story.answer("draft", DRAFT)
    call, draft = story.suggestions()
    assert draft.suggestion_id != call.suggestion_id, "the gate of the call is closed"
    assert draft.revision == 1
    assert "step.completed" in story.decide()


def test_an_agent_that_revises_and_calls_something_still_knows_what_it_was_told() -> None:
    story = Calling(parameters={"suggestion": True})
    story.answer("draft", DRAFT)
    story.comment("refund her, too")
    told = story.asked().input
    story.ask("c1")
    story.wish()
    story.decide()
    assert story.asked().input == told


@pytest.mark.parametrize("further", [False, True])
def test_a_call_is_allowed_while_its_model_thinks_of_another(further: bool) -> None:
    story = Calling()
    story.wish()
    story.comment("only half of it")
    if further:
        story.ask("c2", 1, follows="one")
    story.decide()
    first, *later = story.asked().turns
    assert [call.granted for call in first.open()] == [{"amount": 5}], "what was allowed is made"
    assert [turn.asked[0].granted for turn in later] == [None] * further


@pytest.mark.parametrize("further", [False, True])
def test_a_call_is_refused_while_its_model_thinks_of_another(further: bool) -> None:
    story = Calling()
    story.wish()
    story.comment("only half of it")
    if further:
        story.ask("c2", 1, follows="one")
    story.decide("rejected", comment="leave it")
    first, *later = story.asked().turns
    assert [result.error for result in first.results] == ["sarah has not allowed this: leave it"]
    assert [turn.results for turn in later] == [()] * further


def test_a_call_that_is_not_wanted_any_more_waits_for_nobody() -> None:
    story = Calling()
    story.wish()
    story.comment("better not")
    story.answer("draft", "then not")
    assert [message.approval_id for message in story.said if isinstance(message, ApprovalWithdrawn)]
    assert story.asked().step_id == "after"


def test_calls_that_were_asked_for_are_no_attempts_that_failed() -> None:
    story = Calling(retry={"max_attempts": 2, "backoff_seconds": 1})
    story.wish()
    story.decide()
    assert story.answer("draft", error=BROKEN)[0] == "step.retry_scheduled"
    story.wait(10)
    assert story.asked().turns[0].asked[0].granted == {"amount": 5}
    assert story.answer("draft", error=BROKEN)[0] == "step.failed"


def test_a_step_that_calls_a_tool_may_ask_first_itself() -> None:
    parameters = {"tool": "refund", "arguments": {"amount": 5}, "ask_first": {"approvers": ["sarah"]}}
    step = {"step_id": "draft", "step_type": "tool_call", "parameters": parameters}
    story = Calling.__new__(Calling)
    Workflow.__init__(story, {**step, "next_steps": ["after"]}, agent("after"), budget={"calls": 5})
    assert (story.asked().ask_first, story.asked().granted) == (True, False)
    story.wish("draft")
    [suggested] = story.suggestions()
    assert (suggested.approvers, suggested.revisable) == (("sarah",), False)
    story.decide(data={"amount": 4})
    assert (story.asked().granted, story.asked().input, story.asked().kind) == (True, {"amount": 4}, "tool")
    assert not [message for message in story.said if isinstance(message, BudgetAsked)], "a tool is no agent"
    assert "step.completed" in story.answer("draft", "refunded")


@pytest.mark.parametrize("decision", ["rejected", "expired"])
def test_a_step_that_calls_a_tool_never_calls_what_was_refused(decision: str) -> None:
    rules = {"approvers": ["sarah"], "on_reject": "continue", "on_timeout": "reject"}
    step = {"step_id": "draft", "step_type": "tool_call", "next_steps": ["after"]}
    story = Calling.__new__(Calling)
    Workflow.__init__(story, {**step, "parameters": {"tool": "refund", "ask_first": rules}}, agent("after"))
    story.wish("draft")
    assert story.decide(decision)[0] == "step.completed"
    assert [request.step_id for request in story.requests()] == ["draft", "after"]


def test_what_an_agent_suggests_after_an_allowed_call_is_another_suggestion() -> None:
    story = Calling(parameters={"suggestion": {"actions": {"send": "email"}}})
    story.wish()
    story.decide()
    story.answer("draft", DRAFT)
    call, draft = story.suggestions()
    assert (draft.suggestion_id != call.suggestion_id, draft.revision) == (True, 1), "the call's gate is closed"
    story.decide()
    assert (story.asked().kind, story.asked().input) == ("action", MAIL)


def test_who_hears_no_answer_while_paused_goes_on_when_resumed() -> None:
    story = Calling()
    story.wish()
    story.comment("only half of it")
    story.control("pause")
    assert story.decide("rejected") == ["suggestion.refused"]
    before = len(story.requests())
    story.control("resume")
    assert len(story.requests()) == before + 1


def test_an_allowed_call_of_a_step_asks_no_budgets_as_its_first_attempt_did_not() -> None:
    step = {"step_id": "draft", "step_type": "tool_call", "parameters": {"tool": "refund", "ask_first": True}}
    story = Calling.__new__(Calling)
    Workflow.__init__(story, step, budget={"calls": 1})
    story.wish("draft")
    story.decide()
    assert (len(story.requests()), story.asked().granted) == (2, True)
