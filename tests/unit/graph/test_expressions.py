"""The expression language: what it gives, what it refuses, and that hostile text ends in an error."""

import time
from typing import Any

import pytest
from handrail_graph import ExpressionError, compile_condition, compile_expression, compile_template
from hypothesis import given
from hypothesis import strategies as st

SCOPE: dict[str, Any] = {
    "input": {"priority": "high", "n": 3, "items": [1, 2, {"deep": None}], "odd-name": 1},
    "context": {"customer": "cust-789"},
    "steps": {"draft": {"output": {"title": "T", "score": 0.9}, "status": "completed"}},
    "previous_output": {"title": "T"},
    "now": "2026-02-18T10:30:00+00:00",
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.n", 3),
        ("input.items[1]", 2),
        ("input.odd-name", 1),
        ("steps.draft.output.score", 0.9),
        ("previous_output", {"title": "T"}),
        ("input.n + 1", 4),
        ("input.priority == 'high' && steps.draft.output.score > 0.5", True),
        ("size(input.items)", 3),
        ("input.missing ?? 'none'", "none"),
        ("input.items[2].deep ?? input.missing ?? 7", 7),
        ("input.n ?? 9", 3),
        ("'a ?? b'", "a ?? b"),
        ("{'n': input.n}", {"n": 3}),
    ],
)
def test_value(text: str, value: Any) -> None:
    assert compile_expression(text).evaluate(SCOPE) == value


def test_a_whole_string_keeps_its_type_and_parts_become_text() -> None:
    template = compile_template(
        {"whole": "{{input.n}}", "part": "n={{input.n}} of ${context.customer}", "plain": [1, "x"]}
    )
    assert template.render(SCOPE) == {"whole": 3, "part": "n=3 of cust-789", "plain": [1, "x"]}
    assert compile_template("{{ {'a': {'b': input.n}} }}").render(SCOPE) == {"a": {"b": 3}}


def test_a_condition_compares_what_a_template_names() -> None:
    assert compile_condition("{{input.priority}} == 'high'").evaluate(SCOPE)
    assert not compile_condition("input.n > 3").evaluate(SCOPE)
    with pytest.raises(ExpressionError, match="true or false"):
        compile_condition("input.n").evaluate(SCOPE)


@pytest.mark.parametrize(
    "text", ["input.nothing", "steps.absent.output", "input.items[9]", "context.a.b.c", "input.nothing + 1"]
)
def test_a_missing_path_is_named(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text).evaluate(SCOPE)
    assert caught.value.path is not None


HOSTILE = [
    "(" * 500 + "1" + ")" * 500,
    "[" * 300 + "]" * 300,
    "-" * 1000 + "1",
    "!" * 1000 + "true",
    "input." + "a" * 5000,
    "input.__class__.__mro__",
    "steps.draft.output.__dict__",
    "''.matches('(a+)+b')",
    "'a'.matches(input.priority)",
    "input.items.map(a, input.items.map(b, input.items.map(c, [a, b, c])))" + " ",
    "[1,2,3,4,5,6,7,8,9].map(a,[1,2,3,4,5,6,7,8,9].map(b,[1,2,3,4,5,6,7,8,9].map(c,[1,2,3,4,5,6,7,8,9].map(d,"
    "[1,2,3,4,5,6,7,8,9].map(e,[1,2,3,4,5,6,7,8,9].map(f,1))))))",
    "import os",
    "lambda: 1",
    "{{input}}",
    "",
    "1 +",
    "unknown_root.x",
    "input.items.map(a, input.items.map(b, a))",
    "input.items.map(a, input.items.filter(b, b == a))",
    "input.items.filter(x, x > 5).size()",
    "input.items.all(a, input.items.exists(b, b == -a - 1))",
    "input.text + input.text + input.text + input.text",
    "input.text.contains('b')",
    "[input.text, input.text].map(a, a + a + a)",
    "'%s'.format([input.items])",
    "input.text == input.text && " * 100 + "true",
    " ?? ".join(["input.x"] * 400),
    "input" + ".a" * 1000,
    "input" + "[0]" * 1000,
    "[0,1].map(a,[0,1].map(b,[0,1].map(c,[0,1].map(d,[0,1].map(e,[0,1].map(f,[0,1].map(g,[0,1].map(h,1))))))))",
]
LIMIT_SECONDS = 0.05
LARGE = [
    {"items": list(range(size)), "text": "a" * 250_000, "objects": [{"n": n} for n in range(size)]}
    for size in (100, 1_000, 5_000, 100_000)
]


@pytest.mark.parametrize("given", [SCOPE["input"], *LARGE], ids=["small", "100", "1000", "5000", "100000"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_ends_soon_and_reaches_nothing(text: str, given: Any) -> None:
    """Within 50 ms of this process's time, at the best of three: what takes longer is a way to stop the scheduler."""
    fastest = min(_seconds(text, given) for _ in range(3))
    assert fastest < LIMIT_SECONDS


def _seconds(text: str, given: Any) -> float:
    began = time.process_time()
    try:
        value = compile_expression(text).evaluate({**SCOPE, "input": given})
    except ExpressionError:
        pass
    else:
        assert isinstance(value, list | bool | int | str), value
    return time.process_time() - began


def test_a_list_that_is_too_long_to_go_through_is_told() -> None:
    with pytest.raises(
        ExpressionError, match="it goes through lists of up to 1000 items; one here has 5000; use a loop step"
    ):
        compile_expression("input.items.map(a, a + 1)").evaluate({"input": LARGE[2]})


@given(st.text(max_size=60))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        compile_template(text).render(SCOPE)
    except ExpressionError:
        pass


plain_texts = st.text(max_size=10).filter(lambda text: "{{" not in text and "${" not in text)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=10).filter(lambda s: "{{" not in s and "${" not in s),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_a_path_gives_back_the_very_value(value: Any) -> None:
    assert compile_template("{{input}}").render({"input": value}) == value
    assert compile_template(value).render({}) == value
