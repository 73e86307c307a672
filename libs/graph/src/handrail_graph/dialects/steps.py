"""Steps: an explicit graph by `next_steps` and `else_steps`."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from handrail_graph.build import build, read_retry
from handrail_graph.dialects.common import SHOWN, StepIds, document_concurrency, document_name, document_trigger, items
from handrail_graph.dialects.loops import Outside, loop_parameters
from handrail_graph.drafts import Draft
from handrail_graph.graph import CHOOSING, WORK, Graph, Node, Parameters, StepType
from handrail_graph.parameters import READERS, agent_field, read_cases
from handrail_graph.problems import TEN_YEARS, Problems, closest, shown
from handrail_graph.terms import FIELDS, TaskTerms, read_terms

DOCUMENT_FIELDS = ("name", "description", "steps", "timeout_seconds", *SHOWN)
STEP_FIELDS = (
    "step_id", "step_type", "name", "parameters", "next_steps", "else_steps", "join", "cancel_rest", "on_error",
    "error_steps", "compensate_with", "retry", "timeout_seconds", *FIELDS,
)  # fmt: skip
ON_ERROR = ("fail", "continue", "wait")
LOOP_FIELDS = ("over", "until", "steps", "max_parallel", "max_iterations")
OWN_TIMEOUT = (
    StepType.AGENT_EXECUTION,
    StepType.TOOL_CALL,
    StepType.API_CALL,
    StepType.SUB_WORKFLOW,
    StepType.SIGNAL,
)


def recognises(document: Mapping[str, Any]) -> bool:
    return "steps" in document and "entry_step" not in document


def compile_document(document: Mapping[str, Any], known_agents: Container[str] | None) -> Graph:
    problems = Problems()
    problems.unknown_fields(document, DOCUMENT_FIELDS, "")
    name = document_name(document, problems)
    raw = items(document, "steps", "give at least one step", problems)
    drafts: list[Draft] = []
    outside = Outside(known_agents, frozenset(_ids_of(raw)))
    ids = StepIds(problems)
    for index, step in enumerate(raw):
        draft = _step(step, f"steps[{index}]", ids, outside, problems)
        if draft is not None:
            drafts.append(draft)
    return build(
        drafts,
        name=name,
        description=problems.text(document, "description", "", most=1000),
        dialect="steps",
        timeout_seconds=problems.number(document, "timeout_seconds", "", least=0.001, most=TEN_YEARS),
        known_agents=known_agents,
        problems=problems,
        trigger=document_trigger(document, problems),
        concurrency=document_concurrency(document, problems),
    )


def _ids_of(raw: list[Any]) -> Iterator[str]:
    for step in raw:
        if isinstance(step, Mapping) and isinstance(step.get("step_id"), str):
            yield step["step_id"]


def _step(raw: Any, path: str, ids: StepIds, outside: Outside, problems: Problems) -> Draft | None:
    if not isinstance(raw, Mapping):
        problems.add(path, "wrong_type", "a step is an object with 'step_id', 'step_type' and 'parameters'")
        return None
    problems.unknown_fields(raw, STEP_FIELDS, path)
    step_id = ids.read(raw, "step_id", path)
    kind = _step_type(raw, path, problems)
    if step_id is None or kind is None:
        return None
    inside = f"{path}.parameters."
    parameters = problems.mapping(raw, "parameters", f"{path}.")
    if kind is StepType.LOOP:
        problems.unknown_fields(parameters, LOOP_FIELDS, f"{path}.parameters")
        read = _loop(parameters, inside, outside, problems)
    else:
        problems.unknown_fields(parameters, READERS[kind].fields, f"{path}.parameters")
        read = READERS[kind].read(parameters, inside, problems)
    node = Node(
        id=step_id,
        type=kind,
        name=problems.text(raw, "name", f"{path}.", default=step_id),
        parameters=read,
        next=problems.texts(raw, "next_steps", f"{path}."),
        otherwise=_else_steps(raw, kind, path, problems),
        cases=read_cases(parameters, inside, problems) if kind is StepType.SWITCH else (),
        join=_join(raw, path, problems),
        rest=_rest(raw, step_id, path, problems),
        on_error=problems.choice(raw, "on_error", f"{path}.", ON_ERROR),
        catch=_error_steps(raw, path, problems),
        compensation=_compensation(raw, path, problems),
        retry=read_retry(raw, f"{path}.", problems),
        timeout_seconds=_timeout(raw, parameters, kind, path, problems),
        task=_terms(raw, kind, path, problems),
    )
    if kind is StepType.CONDITION and not node.next and not node.otherwise:
        problems.add(
            f"{path}.next_steps", "missing", "a condition leads somewhere: name next_steps, else_steps or both"
        )
    return Draft(node, path, parameters_path=f"{path}.parameters", agent_path=inside + agent_field(parameters))


def _loop(raw: dict[str, Any], path: str, outside: Outside, problems: Problems) -> Parameters:
    """What is wrong with the body is told with the place in the whole document."""
    if ("over" in raw) == ("until" in raw):
        problems.add(f"{path}over", "missing", "say what the loop runs over, or until what: one of over, until")
    body = items(raw, "steps", "give the steps of each turn", problems, path)
    drafts: list[Draft] = []
    inner = Outside(outside.agents, outside.steps | frozenset(_ids_of(body)))
    ids = StepIds(problems)
    for index, step in enumerate(body):
        draft = _step(step, f"{path}steps[{index}]", ids, inner, problems)
        if draft is not None:
            drafts.append(draft)
    for draft in drafts:
        if draft.node.type is StepType.TRIGGER:
            problems.add(draft.path, "trigger_inside", "a trigger is where a workflow begins; a loop has none")
        if draft.node.task is not None:
            message = "a step of a loop's turns is listed when it begins; give the loop's workflow or a step beside it a due date"
            problems.add(draft.path, "misplaced", message)
    return loop_parameters(raw, drafts, path, "until", outside, problems)


def _terms(raw: Mapping[str, Any], kind: StepType, path: str, problems: Problems) -> TaskTerms | None:
    terms = read_terms(raw, f"{path}.", problems)
    if terms is not None and kind not in WORK:
        field = next(name for name in FIELDS if name in raw)
        message = f"only what agents and tools do are tasks with {field}; this step is a {kind}"
        problems.add(f"{path}.{field}", "misplaced", message)
        return None
    return terms


def _step_type(raw: Mapping[str, Any], path: str, problems: Problems) -> StepType | None:
    kind = raw.get("step_type")
    known = [str(name) for name in StepType]
    if kind in known:
        return StepType(kind)
    hint = closest(kind, known) if isinstance(kind, str) else ""
    message = f"{shown(kind)} is no step type{hint}; there are {', '.join(known)}"
    problems.add(f"{path}.step_type", "unknown_step_type", message)
    return None


def _else_steps(raw: Mapping[str, Any], kind: StepType, path: str, problems: Problems) -> tuple[str, ...]:
    targets = problems.texts(raw, "else_steps", f"{path}.")
    if targets and kind not in CHOOSING:
        message = f"only a condition or a switch has else_steps; this step is a {kind}"
        problems.add(f"{path}.else_steps", "misplaced", message)
        return ()
    return targets


def _join(raw: Mapping[str, Any], path: str, problems: Problems) -> int | None:
    """None waits for all that come."""
    join = raw.get("join", "all")
    if join == "all":
        return None
    if join == "any":
        return 1
    if isinstance(join, int) and not isinstance(join, bool) and join >= 1:
        return join
    problems.add(
        f"{path}.join", "wrong_value", f"must be 'all', 'any' or how many steps to wait for, not {shown(join)}"
    )
    return None


def _rest(raw: Mapping[str, Any], step_id: str, path: str, problems: Problems) -> tuple[str, ...]:
    """A mark that the builder replaces with the steps that the join no longer needs once it begins."""
    wanted = raw.get("cancel_rest", False)
    if not isinstance(wanted, bool):
        problems.add(f"{path}.cancel_rest", "wrong_type", f"must be true or false, not {shown(wanted)}")
    elif wanted and raw.get("join", "all") == "all":
        problems.add(f"{path}.cancel_rest", "misplaced", "a step that waits for all leaves no rest; give it a join")
    return (step_id,) if wanted is True else ()


def _error_steps(raw: Mapping[str, Any], path: str, problems: Problems) -> tuple[str, ...]:
    targets = problems.texts(raw, "error_steps", f"{path}.")
    if targets and raw.get("on_error", "fail") != "fail":
        message = "a step either has error_steps or an on_error that is not 'fail'; leave one of them out"
        problems.add(f"{path}.error_steps", "misplaced", message)
    return targets


def _compensation(raw: Mapping[str, Any], path: str, problems: Problems) -> str | None:
    if raw.get("compensate_with") is None:
        return None
    return problems.text(raw, "compensate_with", f"{path}.")


def _timeout(
    raw: Mapping[str, Any], parameters: Mapping[str, Any], kind: StepType, path: str, problems: Problems
) -> float | None:
    outside = problems.number(raw, "timeout_seconds", f"{path}.", least=0.001, most=TEN_YEARS)
    if outside is not None and kind not in (*OWN_TIMEOUT, StepType.LOOP):
        hint = "; give it in its parameters" if kind is StepType.HUMAN_APPROVAL else ""
        problems.add(f"{path}.timeout_seconds", "misplaced", f"a step of type {kind} has no time-out here{hint}")
    if kind in OWN_TIMEOUT and outside is None:
        return problems.number(parameters, "timeout_seconds", f"{path}.parameters.", least=0.001, most=TEN_YEARS)
    return outside
