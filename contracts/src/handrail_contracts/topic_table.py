"""docs/topics.md: the catalogue as a page for people."""

from collections.abc import Iterator

from handrail_contracts.topics import TopicSpec, catalogue

_HEAD = """# Topics

Generated from `contracts/topics` by `python -m handrail_contracts.generate`: change the YAML, not this page. Shapes are in
[contracts/schemas](../contracts/schemas), real-looking messages in [contracts/examples](../contracts/examples), the whole as
AsyncAPI in [contracts/asyncapi.yaml](../contracts/asyncapi.yaml). How to publish and what may be trimmed:
[the guide](guides/topics.md).

| topic | purpose | key | partitions | messages | producers | consumers | retention | dead letter |
|---|---|---|---|---|---|---|---|---|
"""
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def page() -> str:
    specs = catalogue().values()
    return _HEAD + "".join(map(_row, specs)) + "".join(_notes())


def _row(spec: TopicSpec) -> str:
    cells = (
        f"`{spec.name}`",
        spec.purpose,
        spec.key,
        str(spec.partitions),
        ", ".join(f"`{name}`" for name in spec.messages),
        ", ".join(spec.producers),
        ", ".join(spec.consumers),
        retention(spec),
        "no" if spec.dead_letter == "none" else f"`{spec.dead_letter}`",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _notes() -> Iterator[str]:
    yield "\n## Retention\n\n"
    yield from (f"- `{spec.name}`: {spec.retention_note}\n" for spec in catalogue().values() if spec.retention_note)


def retention(spec: TopicSpec) -> str:
    """As a person says it: `30d`, `latest per key`, `for ever`."""
    if spec.cleanup_policy == "compact":
        return "latest per key"
    if spec.retention_ms < 0:
        return "for ever"
    unit, length = next((unit, length) for unit, length in _UNITS if spec.retention_ms % length == 0)
    return f"{spec.retention_ms // length}{unit}"
