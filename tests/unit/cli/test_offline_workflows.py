"""The rules that stand in for a model: what is said is read, and whatever is said, something comes of it that compiles."""

import json
from typing import Any

import pytest
from handrail import offline_workflows
from handrail.offline_workflows.plans import (
    Approve,
    Choice,
    Each,
    Route,
    Signal,
    Task,
    Together,
    Until,
    Wait,
)
from handrail.offline_workflows.sentences import labels_of, plan_of
from handrail.offline_workflows.staff import Staff
from handrail_gateway.generation import drafts, wording
from handrail_gateway.generation.resources import Resources
from handrail_graph import compile_workflow
from hypothesis import given
from hypothesis import strategies as st

Json = dict[str, Any]

AGENTS = {
    "polyglot": {
        "id": "polyglot",
        "kind": "llm",
        "name": "",
        "description": "Translates",
        "capabilities": ["translation"],
    },
    "sum:1": {"id": "sum:1", "kind": "http", "name": "", "description": "", "capabilities": ["summaries"]},
}
TOOLS = {
    "word_count": {
        "name": "word_count",
        "description": "",
        "parameters": {"required": ["text"], "properties": {"text": {}}},
    }
}
RESOURCES = Resources(AGENTS, TOOLS, {})


def drafted(description: str) -> drafts.Draft:
    """As the gateway reads what the offline model answers; raises if that can't be used."""
    answer = drafts.read(offline_workflows.answer(wording.wish(description, {}, [], RESOURCES)))
    document = drafts.document_of(answer)
    compile_workflow(document, known_agents=RESOURCES.known | {*drafts.names_in(answer)})
    return drafts.drafted({**answer, "workflow": document}, RESOURCES, [], "offline")


def read(text: str) -> list[Any]:
    return list(plan_of(text).items)


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("Every 15 minutes check it.", "*/15 * * * *"),
        ("Check it every two hours.", "0 */2 * * *"),
        ("Every day at 7:30 pm write a digest.", "30 19 * * *"),
        ("On weekdays at 9 write a digest.", "0 9 * * 1-5"),
        ("Each friday write a digest.", "0 9 * * 5"),
        ("On the first day of the month at noon write a digest.", "0 12 1 * *"),
        ("Daily at 12 am write a digest.", "0 0 * * *"),
    ],
)
def test_times_are_read(text: str, cron: str) -> None:
    assert plan_of(text).trigger == {"kind": "schedule", "cron": cron}
    assert len(plan_of(text).items) == 1


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("When a webhook comes, read it.", {"kind": "webhook"}),
        ("When the event order.placed comes in, read it.", {"kind": "event", "event": "order.placed"}),
        ("When a customer writes in the chat, answer.", {"kind": "chat"}),
        ("When an e-mail arrives, read it.", {"kind": "api"}),
    ],
)
def test_what_starts_it_is_read_and_is_no_step(text: str, trigger: Json) -> None:
    plan = plan_of(text)
    assert (plan.trigger, len(plan.items)) == (trigger, 1)


def test_a_chain_is_read_in_order_whatever_order_it_is_told_in() -> None:
    said = "Draft a letter and send it after a manager has approved it, then archive the letter."
    kinds = [item.verb if isinstance(item, Task) else type(item).__name__ for item in read(said)]
    assert kinds == ["draft", "Approve", "send", "archive"]
    assert read("Ask the boss before paying the bill.") == [
        Approve("the boss", "Ask the boss"),
        Task("pay", "pay the bill"),
    ]
    assert read("Wait two days and then call him.")[0] == Wait(172_800)
    assert read("Wait for the payment, then close the case.")[0] == Signal("the payment")


def test_decisions_have_both_branches() -> None:
    (choice, last) = read("If it is urgent, escalate it to a person, otherwise answer it. Finally archive it.")
    assert isinstance(choice, Choice)
    assert (choice.condition, choice.then, choice.otherwise) == (
        "it is urgent", (Approve("a person", "escalate it to a person"),), (Task("answer", "answer it"),),
    )  # fmt: skip
    assert last == Task("archive", "archive it")
    assert read("Publish it unless it is rude.") == [Choice("it is rude", (), (Task("publish", "Publish it"),))]
    assert read("If it is late, remind him. Otherwise close it.")[0].otherwise == (Task("close", "close it"),)


def test_branches_loops_and_routes() -> None:
    (together,) = read("Translate it into German, French and Spanish in parallel.")
    assert isinstance(together, Together)
    assert [branch[0].text for branch in together.branches if isinstance(branch[0], Task)] == [
        "Translate it into German", "Translate it into French", "Translate it into Spanish",
    ]  # fmt: skip
    (three, _) = read("Let three reviewers check it at the same time, then summarize.")
    assert len(three.branches) == 3
    (each, after) = read("For each order, check the stock and pack it, then write a report.")
    assert isinstance(each, Each)
    assert (each.noun, len(each.body), after) == ("order", 2, Task("write", "write a report"))
    assert read("Translate each chapter.") == [Each("chapter", (Task("translate", "Translate the chapter"),))]
    assert read("Revise it until the critic is content.") == [
        Until("the critic is content", (Task("revise", "revise it"),))
    ]
    assert isinstance(read("Sort it into red or blue and route it to the right team.")[1], Route)
    assert labels_of("Sort it as red, light blue or green") == ["red", "light blue", "green"]


def test_agents_and_tools_that_exist_are_preferred() -> None:
    found = drafted("Count the words, translate the text, sum it up, summarize it, and then juggle it.")
    assert found.agents_used == ["polyglot", "sum:1"]
    tools = [step["parameters"]["tool"] for step in found.workflow["steps"] if step["step_type"] == "tool_call"]
    assert tools == ["word_count"]
    assert any("juggle" in name for name in found.agents)


def test_a_tool_of_one_word_is_not_found_in_others() -> None:
    staff = Staff({}, [{"name": "book"}, {"name": "crm:find_customer"}])
    found = [
        staff.tool_for(text)
        for text in ("book a room", "read the book", "use the book tool", "find the customers", "?")
    ]
    assert [tool and tool["name"] for tool in found] == ["book", None, "book", "crm:find_customer", None]


def test_what_cannot_be_undone_waits_for_a_person_unless_nobody_is_wanted() -> None:
    gates = [
        sum(step["step_type"] == "human_approval" for step in drafted(said).workflow["steps"])
        for said in (
            "Write a letter and send it.",
            "Write a letter and send it without asking.",
            "Write a letter, ask Ann's manager to approve it, then send it.",
        )
    ]
    assert gates == [1, 0, 1]


def test_constraints_are_no_steps() -> None:
    said = [
        json.loads(offline_workflows.answer(wording.wish("Write a letter and send it.", {}, constraints, RESOURCES)))
        for constraints in ([], ["No approval is needed", "check twice"])
    ]
    assert [len(answer["workflow"]["steps"]) for answer in said] == [4, 3]


def test_a_subject_alone_is_its_template_without_the_place_where_it_runs() -> None:
    found = drafted("Legal contract review")
    assert [*found.agents] == [f"legal-contract-review-{part}" for part in ("splitter", "reviewer", "summarizer")]
    assert {agent.config["model"] for agent in found.agents.values()} == {"offline"}


SENTENCES = st.sampled_from(
    [
        "summarize the text",
        "send it",
        "ask a manager",
        "if it is good, publish it",
        "otherwise delete it",
        "for each page, read it",
        "in parallel, check a, check b and check c",
        "until it is done",
        "wait 3 hours",
        "wait for the reply",
        "call the crm api",
        "get https://example.com/a.json",
        "classify it as a, b or c",
        "route it to the right team",
        "count the words",
        "approval",
        "after approval, pay it",
        "unless it is late",
        "if the sum is above 10, translate it, else score it",
        "before sending it",
        "revise it until it is fine",
        "every morning",
        "use the polyglot",
        "combine the results",
        "two agents rate it side by side",
        "keep it",
        "and",
        "then",
        "finally",
        ",",
        "automatically",
        "when a webhook comes,",
        "if approved, order it",
        "at the same time",
    ]
)


@given(st.lists(SENTENCES, min_size=1, max_size=9), st.sampled_from([". ", ", ", " and ", ", then ", " "]))
def test_whatever_is_said_in_these_words_compiles(parts: list[str], between: str) -> None:
    drafted(between.join(parts))


@given(st.text(min_size=3, max_size=120).filter(lambda text: len(text.strip()) >= 3))
def test_whatever_is_said_at_all_compiles(text: str) -> None:
    drafted(json.loads(json.dumps(text, ensure_ascii=True).replace("\\u0000", " ")))
