"""What is generated is current, whole and well formed; what was released still holds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from handrail_contracts import generate
from handrail_contracts.codec import decode
from handrail_contracts.earlier import EARLIER
from handrail_contracts.schemas import file_name, schema_of, versions
from handrail_contracts.topics import catalogue
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from contracts.contract_files import CONTRACTS, EXAMPLES, REPOSITORY

ASYNCAPI: dict[str, Any] = yaml.safe_load((CONTRACTS / "asyncapi.yaml").read_text("utf-8"))


def test_the_files_on_disk_are_current() -> None:
    assert generate.differences(REPOSITORY) == []


def test_generating_twice_gives_the_same_bytes() -> None:
    assert generate.generated() == generate.generated()


def test_nothing_that_was_released_is_broken() -> None:
    assert generate.broken_promises(CONTRACTS) == []


def test_every_version_and_example_is_released() -> None:
    """Until the first release this says: run `python -m handrail_contracts.generate --release`."""
    frozen = {path.name for path in (CONTRACTS / "released").glob("*.v*.json")}
    assert frozen == {file_name(*known) for known in versions()}
    assert set(generate.released_digests(CONTRACTS)) == set(generate.example_digests(CONTRACTS))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository as the generator leaves it."""
    generate.write(tmp_path)
    return tmp_path


def test_a_fresh_checkout_has_no_differences(checkout: Path) -> None:
    assert generate.differences(checkout) == []


def test_a_changed_a_missing_and_a_left_over_file_are_named(checkout: Path) -> None:
    (checkout / "docs/topics.md").write_text("# Topics\n", "utf-8")
    (checkout / "contracts/asyncapi.yaml").unlink()
    (checkout / "contracts/schemas/Forgotten.v1.json").write_text("{}", "utf-8")
    assert generate.differences(checkout) == [
        "contracts/asyncapi.yaml is missing",
        "docs/topics.md is not what the catalogue and the models say now",
        "contracts/schemas/Forgotten.v1.json belongs to no message",
    ]
    generate.write(checkout)
    assert generate.differences(checkout) == []


def test_check_says_what_to_do_and_exits_with_1(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "contracts/topics").mkdir()
    (checkout / "docs/topics.md").unlink()
    monkeypatch.setattr(generate, "CONTRACTS", checkout / "contracts")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "docs/topics.md is missing",
        "run `python -m handrail_contracts.generate` and commit what it writes",
    ]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_a_released_example_may_not_be_edited_or_removed(tmp_path: Path) -> None:
    one, other = (tmp_path / "examples/handrail.fences" / name for name in ("Fence.v1.a.json", "Fence.v1.b.json"))
    one.parent.mkdir(parents=True)
    one.write_text('{"owner": "scheduler/1"}')
    other.write_text('{"owner": "scheduler/2"}')
    generate.release(tmp_path)
    assert generate.broken_promises(tmp_path) == []
    one.write_text('{"owner": "scheduler/3"}')
    other.unlink()
    assert generate.broken_promises(tmp_path) == [
        "examples/handrail.fences/Fence.v1.a.json was released and is changed",
        "examples/handrail.fences/Fence.v1.b.json was released and is gone",
    ]


def test_a_released_message_may_not_lose_its_model_or_a_field(tmp_path: Path) -> None:
    generate.release(tmp_path)
    folder = tmp_path / "released"
    (folder / "Retired.v1.json").write_text("{}", "utf-8")
    fence = json.loads((folder / "Fence.v1.json").read_text("utf-8"))
    fence["properties"]["reason"] = {"type": "string"}
    (folder / "Fence.v1.json").write_text(json.dumps(fence), "utf-8")
    assert generate.broken_promises(tmp_path) == [
        "Fence.v1: reason: was removed",
        "Retired.v1 was released and has no model any more",
    ]


def test_an_incompatible_change_can_not_be_released(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contracts = checkout / "contracts"
    (contracts / "topics").mkdir()
    monkeypatch.setattr(generate, "CONTRACTS", contracts)
    assert generate.main(["--release"]) == 0
    (contracts / "released/Retired.v1.json").write_text("{}", "utf-8")
    assert generate.main(["--release"]) == 1
    assert "new version" in capsys.readouterr().err


@pytest.mark.parametrize("name, number", sorted(versions()))
def test_a_schema_is_valid_and_names_itself(name: str, number: int) -> None:
    schema = schema_of(name, number)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(f":{name}:v{number}")
    assert schema.get("description"), "a message's docstring is its documentation"


@pytest.mark.parametrize("name, number", sorted(set(versions()) - set(EARLIER)))
def test_what_a_schema_requires_is_what_a_model_requires(name: str, number: int) -> None:
    """Besides the constants: writers say them, readers could do without."""
    model: type[BaseModel] = versions()[name, number]
    required = {field for field, info in model.model_fields.items() if info.is_required()}
    schema = schema_of(name, number)
    constants = {field for field, said in schema["properties"].items() if "const" in said}
    assert set(schema["required"]) == required | constants
    assert {"schema_version"} <= constants


def test_released_examples_decode_by_today_s_models() -> None:
    digests = generate.released_digests(CONTRACTS)
    assert digests
    for example in EXAMPLES:
        if f"{example.topic}/{example.path.name}" in digests:
            decode(example.topic, example.value)


# --- AsyncAPI ---------------------------------------------------------------------------------------------------------


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    if isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _target(reference: str) -> Any:
    if not reference.startswith("#/"):
        return json.loads((CONTRACTS / reference).read_text("utf-8"))
    found: Any = ASYNCAPI
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_every_reference_leads_somewhere() -> None:
    references = list(_references(ASYNCAPI))
    assert len(references) > 100
    assert all(_target(reference) for reference in references)


def test_every_topic_is_a_channel_with_its_messages_and_partitions() -> None:
    assert set(ASYNCAPI["channels"]) == set(catalogue())
    for name, spec in catalogue().items():
        channel = ASYNCAPI["channels"][name]
        kafka = channel["bindings"]["kafka"]
        assert channel["address"] == kafka["topic"] == name
        assert kafka["partitions"] == spec.partitions
        assert kafka["topicConfiguration"]["retention.ms"] == spec.retention_ms
        assert {key.partition(".")[0] for key in channel["messages"]} == set(spec.messages)
        assert (channel["x-producers"], channel["x-consumers"]) == ([*spec.producers], [*spec.consumers])


def test_every_service_sends_and_receives_what_the_catalogue_says() -> None:
    operations = {(o["tags"][0]["name"], o["action"], o["channel"]["$ref"]) for o in ASYNCAPI["operations"].values()}
    expected = set()
    for name, spec in catalogue().items():
        channel = f"#/channels/{name}"
        expected |= {(who.replace(" ", "-"), "send", channel) for who in spec.producers if who != "anyone"}
        expected |= {(who.replace(" ", "-"), "receive", channel) for who in spec.consumers if who != "anyone"}
    assert operations == expected


def test_nobody_sends_an_earlier_version_and_every_consumer_reads_it() -> None:
    for operation in ASYNCAPI["operations"].values():
        keys = {reference["$ref"].rpartition("/")[2] for reference in operation["messages"]}
        channel = _target(operation["channel"]["$ref"])
        earlier = {f"{name}.v{number}" for name, number in EARLIER} & set(channel["messages"])
        assert keys & earlier == (set() if operation["action"] == "send" else earlier)
