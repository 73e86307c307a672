"""The catalogue is complete, and what it says of the services is so."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from handrail_approvals.core import WIRING as APPROVALS
from handrail_contracts import (
    admission,
    approval_events,
    approvals,
    budgets,
    control,
    execution_events,
    identity,
    notifications,
    platform,
    reviewers,
    runners,
    steps,
    tasks,
    topics,
    triggers,
    workflows,
)
from handrail_contracts.codec import MAX_RECORD_BYTES, message_type, messages_of
from handrail_contracts.envelope import Message
from handrail_contracts.journal import Record
from handrail_contracts.topics import EXECUTION_PARTITIONS, TopicSpec, catalogue
from handrail_projector.feed import PARTITIONED, SINGLE
from handrail_runtime.machine.core import Wiring
from handrail_scheduler.core import SchedulerCore

from contracts.contract_files import CONTRACTS, REPOSITORY

OUTSIDE = {"anyone", "handrail dlq"}
SERVICES = {path.parent.name for path in (REPOSITORY / "services").glob("*/pyproject.toml")}
SPECS = tuple(catalogue().values())
FAMILIES = (
    admission,
    budgets,
    approval_events,
    approvals,
    control,
    execution_events,
    identity,
    notifications,
    platform,
    reviewers,
    runners,
    steps,
    tasks,
    triggers,
    workflows,
)
CONSTANTS = {
    name: value
    for name, value in vars(topics).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
}

each_topic = pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])


def test_every_file_describes_the_topic_that_it_is_named_after() -> None:
    files = {path.stem: path for path in (CONTRACTS / "topics").glob("*.yaml")}
    assert {name: yaml.safe_load(path.read_text("utf-8"))["name"] for name, path in files.items()} == {
        n: n for n in files
    }
    assert set(files) == set(catalogue())


def test_topics_and_their_constants_belong_to_each_other() -> None:
    assert sorted(CONSTANTS.values()) == sorted(catalogue())


@each_topic
def test_every_named_message_exists(spec: TopicSpec) -> None:
    assert [model.__name__ for model in messages_of(spec.name)] == list(spec.messages)


def test_every_message_belongs_to_a_topic() -> None:
    carried = {name for spec in SPECS for name in spec.messages}
    defined = {
        name
        for family in FAMILIES
        for name, found in vars(family).items()
        if isinstance(found, type)
        and found.__module__ == family.__name__
        and "schema_version" in getattr(found, "model_fields", {})
    }
    assert defined == carried


@each_topic
def test_producers_and_consumers_are_services_or_known_outsiders(spec: TopicSpec) -> None:
    assert spec.producers and spec.consumers
    assert set(spec.producers) | set(spec.consumers) <= SERVICES | OUTSIDE


@each_topic
def test_the_messages_of_a_topic_can_be_told_apart(spec: TopicSpec) -> None:
    if len(spec.messages) > 1:
        names = [get_args(model.model_fields["event_type"].annotation) for model in messages_of(spec.name)]
        told_apart = [name for several in names for name in several]
        assert len(told_apart) == len(set(told_apart)) >= len(spec.messages)


@each_topic
def test_what_concerns_executions_is_spread_over_the_same_partitions(spec: TopicSpec) -> None:
    concerns_executions = spec.key in ("execution_id", "run_id", "partition")
    assert spec.partitions == (EXECUTION_PARTITIONS if concerns_executions else 1)


@each_topic
def test_events_and_journals_are_never_compacted(spec: TopicSpec) -> None:
    """Compaction keeps the latest per key: right for a table (definitions, agents, fences), fatal for a history."""
    whole = spec.role in ("journal", "snapshot", "command") or spec.key == "execution_id"
    assert spec.cleanup_policy == ("delete" if whole or spec.name == topics.DEAD_LETTERS else "compact")


@each_topic
def test_journals_are_kept_for_ever_and_have_no_dead_letters(spec: TopicSpec) -> None:
    if spec.role == "journal":
        assert (spec.retention_ms, spec.dead_letter) == (-1, "none")
        assert all(issubclass(model, Record) for model in messages_of(spec.name))


@each_topic
def test_the_broker_takes_every_record_that_we_may_write(spec: TopicSpec) -> None:
    assert spec.max_message_bytes > MAX_RECORD_BYTES


def test_a_dead_letter_holds_the_largest_record_of_any_topic() -> None:
    largest = max(spec.max_message_bytes for spec in SPECS if spec.dead_letter != "none")
    assert catalogue()[topics.DEAD_LETTERS].max_message_bytes > largest * 4 / 3


@each_topic
def test_what_can_fail_to_decode_has_a_reader_that_writes_dead_letters(spec: TopicSpec) -> None:
    if spec.dead_letter == topics.DEAD_LETTERS and set(spec.consumers) & SERVICES:
        able = set(catalogue()[topics.DEAD_LETTERS].producers)
        readers = set(spec.consumers) & SERVICES
        assert readers & able or readers == {"gateway"}, "somebody who reads it has to set the bad ones aside"


@pytest.mark.parametrize("wiring", [SchedulerCore.wiring, APPROVALS], ids=["scheduler", "approvals"])
def test_the_wiring_of_a_stateful_service_is_in_the_catalogue(wiring: Wiring) -> None:
    specs = catalogue()
    for name in wiring.inputs:
        assert wiring.service in specs[name].consumers, name
    for command in wiring.commands:
        assert wiring.service in specs[command.name].producers, command.name
    for name in (wiring.journal, wiring.snapshots):
        assert specs[name].producers == (wiring.service,)
        assert wiring.service in specs[name].consumers
    assert messages_of(wiring.journal) == (wiring.record,)


def test_the_projector_reads_what_the_catalogue_says() -> None:
    for name in (*PARTITIONED, *SINGLE):
        assert "projector" in catalogue()[name].consumers, name


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_touches_only_topics_that_name_it(service: str) -> None:
    for path in (REPOSITORY / "services" / service / "src").rglob("*.py"):
        for constant in _topics_named_in(path):
            spec = catalogue()[CONSTANTS[constant]]
            assert service in (*spec.producers, *spec.consumers), f"{path.name} uses {constant}"


def _topics_named_in(path: Path) -> Iterator[str]:
    """Constants taken from `handrail_contracts.topics`, imported by name or by module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "handrail_contracts.topics":
            yield from (name.name for name in node.names if name.name in CONSTANTS)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "topics":
            yield from ([node.attr] if node.attr in CONSTANTS else [])


def test_an_unknown_message_name_is_refused() -> None:
    with pytest.raises(LookupError, match="NoSuchMessage"):
        message_type("NoSuchMessage")


def test_messages_carry_an_id_and_a_time() -> None:
    """Fences, snapshots and journal records are told apart by their place instead."""
    by_place = {"ExecutionRecord", "ApprovalRecord", "Fence", "SnapshotChunk"}
    carried = {name for spec in SPECS for name in spec.messages}
    assert {name for name in carried if not issubclass(message_type(name), Message)} == by_place
