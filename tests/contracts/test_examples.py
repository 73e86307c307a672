"""Every message of every version ever written stays readable."""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, get_args

import pytest
from handrail_contracts.codec import decode, encode
from handrail_contracts.earlier import EARLIER
from handrail_contracts.execution_events import ExecutionRecord
from handrail_contracts.ids import partition_of
from handrail_contracts.platform import DeadLetter, SnapshotChunk
from handrail_contracts.schemas import newest_version, schema_of, versions, versions_of
from handrail_contracts.steps import StepRequested
from handrail_contracts.topics import EXECUTION_PARTITIONS, EXECUTION_SNAPSHOTS, WORKFLOW_DEFINED, catalogue
from handrail_contracts.upcasters import UPCASTERS
from handrail_contracts.workflows import WorkflowCompleted, WorkflowDefined, WorkflowStarted
from handrail_graph import compile_workflow
from jsonschema import Draft202012Validator, FormatChecker

from contracts.contract_files import EXAMPLES, Example

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=str)


@each_example
def test_an_example_decodes_to_the_newest_version_of_its_message(example: Example) -> None:
    message = decode(example.topic, example.value)
    assert type(message).__name__ == example.message
    assert message.schema_version == newest_version(type(message))


@each_example
def test_an_example_survives_the_way_to_bytes_and_back(example: Example) -> None:
    message = decode(example.topic, example.value)
    assert decode(example.topic, encode(message)) == message
    assert encode(decode(example.topic, encode(message))) == encode(message)


@each_example
def test_an_example_says_nothing_that_is_lost(example: Example) -> None:
    """Unknown fields are ignored: a misspelt one in an example would never be noticed otherwise."""
    written = json.loads(example.value)
    model = versions()[example.message, example.version]
    assert list(_lost(written, model.model_validate(written).model_dump(mode="json"), "")) == []


@each_example
def test_an_example_obeys_the_schema_of_its_version(example: Example) -> None:
    schema = schema_of(example.message, example.version)
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(json.loads(example.value))


@pytest.mark.parametrize("topic", sorted(catalogue()))
def test_every_message_has_an_example_of_every_version(topic: str) -> None:
    shown = {(example.message, example.version) for example in EXAMPLES if example.topic == topic}
    assert shown == set(versions_of(topic))


def test_every_type_of_every_message_and_event_is_shown() -> None:
    shown = defaultdict(set)
    for example in EXAMPLES:
        for name, value in _tags(json.loads(example.value)):
            shown[example.message, example.version, name].add(value)
    for message, version in versions():
        schema = schema_of(message, version)
        for part in (schema, *schema.get("$defs", {}).values()):
            for name in ("event_type", "type", "kind", "decision", "status"):
                field = part.get("properties", {}).get(name, {})
                for value in field.get("enum", [field["const"]] if "const" in field else []):
                    assert value in shown[message, version, name], (
                        f"no example of {message} v{version} with {name} {value}"
                    )


def test_every_earlier_version_has_a_way_to_the_newest() -> None:
    for (message, version), model in EARLIER.items():
        newest = max(number for name, number in versions() if name == message)
        for event_type in get_args(model.model_fields["event_type"].annotation):
            for step in range(version, newest):
                assert (event_type, step) in UPCASTERS, f"{event_type} {step} -> {step + 1}"


def test_no_upcaster_leads_past_the_newest_version() -> None:
    newest = {"workflow.started": newest_version(WorkflowStarted)}
    for event_type, version in UPCASTERS:
        assert version < newest.get(event_type, newest_version(WorkflowCompleted))


def test_earlier_versions_get_an_execution_that_belongs_to_their_content() -> None:
    [old] = [example for example in EXAMPLES if example.message == "WorkflowStarted" and example.version == 1]
    first, again = decode(old.topic, old.value), decode(old.topic, old.value)
    assert first == again and first.execution_id and first.event_id != first.execution_id
    other = json.loads(old.value) | {"user_id": 43}
    assert decode(old.topic, json.dumps(other).encode()).execution_id != first.execution_id


def test_an_earlier_version_that_names_its_execution_keeps_it() -> None:
    [old] = [example for example in EXAMPLES if example.message == "WorkflowStarted" and example.version == 1]
    named = json.loads(old.value) | {"execution_id": "order-4711"}
    assert decode(old.topic, json.dumps(named).encode()).execution_id == "order-4711"


@pytest.mark.parametrize("topic", ["execution.snapshots", "approval.snapshots"])
def test_the_snapshot_examples_are_whole(topic: str) -> None:
    chunks: list[SnapshotChunk] = sorted(_decoded(topic), key=lambda chunk: chunk.chunk)
    digest = hashlib.sha256(chunks[0].ended.encode())
    for entry in (entry for chunk in chunks for entry in chunk.entries):
        digest.update(entry.encode())
    assert [chunk.chunk for chunk in chunks] == list(range(chunks[0].chunks))
    assert {chunk.checksum for chunk in chunks} == {digest.hexdigest()}
    assert len({chunk.snapshot_id for chunk in chunks}) == 1


def test_a_dead_letter_holds_the_record_as_it_was() -> None:
    letter: DeadLetter
    for letter in _decoded("dead_letters"):
        assert (letter.key is None) == (letter.execution_id == "")
        assert letter.key is None or base64.b64decode(letter.key).decode() == letter.execution_id


def test_requested_steps_answer_to_the_partition_of_their_execution() -> None:
    request: StepRequested
    for request in _decoded("step.requested"):
        assert request.partition == partition_of(request.execution_id, EXECUTION_PARTITIONS)


def _definitions() -> list[WorkflowDefined]:
    return [message for message in _decoded(WORKFLOW_DEFINED) if isinstance(message, WorkflowDefined)]


def test_example_definitions_compile() -> None:
    definition: WorkflowDefined
    for definition in _definitions():
        graph = compile_workflow(definition.definition)
        assert graph.name == definition.name


def test_example_journals_name_steps_of_the_example_definitions() -> None:
    steps = {d.workflow_id: set(compile_workflow(d.definition).nodes) for d in _definitions()}
    record: ExecutionRecord
    for record in _decoded("execution.events"):
        for event in record.events:
            named = {getattr(event, "step_id", None), *getattr(event, "step_ids", ())} - {None}
            assert named <= steps.get(record.workflow_id, set()), record


def test_what_is_named_twice_says_the_same_thing_twice() -> None:
    """Ids are deterministic: examples with one id in one topic would otherwise be two messages under one name."""
    seen: dict[tuple[str, str], str] = {}
    for example in EXAMPLES:
        if example.topic == EXECUTION_SNAPSHOTS or example.version < max(
            n for m, n in versions() if m == example.message
        ):
            continue
        event_id = json.loads(example.value).get("event_id")
        if event_id is not None:
            assert seen.setdefault((example.topic, event_id), str(example)) == str(example)


def _decoded(topic: str) -> list[Any]:
    return [decode(topic, example.value) for example in EXAMPLES if example.topic == topic]


def _tags(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, str):
                yield name, inner
            yield from _tags(inner)
    if isinstance(value, list):
        for inner in value:
            yield from _tags(inner)


def _lost(written: Any, kept: Any, path: str) -> Iterable[str]:
    """Fields that were written and are not in what the model kept."""
    if isinstance(written, dict):
        for name, inner in written.items():
            if not isinstance(kept, dict) or name not in kept:
                yield f"{path}.{name}"
            else:
                yield from _lost(inner, kept[name], f"{path}.{name}")
    if isinstance(written, list):
        for index, inner in enumerate(written):
            yield from _lost(inner, kept[index], f"{path}[{index}]")
