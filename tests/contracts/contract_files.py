"""Where the contracts lie, and how their examples are named: `<topic>/<MessageName>.v<N>[.<variant>].json`."""

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CONTRACTS = REPOSITORY / "contracts"


@dataclass(frozen=True)
class Example:
    topic: str
    message: str
    version: int
    path: Path

    @property
    def value(self) -> bytes:
        return self.path.read_bytes()

    def __str__(self) -> str:
        return f"{self.topic}/{self.path.stem}"


def _example(path: Path) -> Example:
    message, version, *_ = path.name.split(".")
    return Example(path.parent.name, message, int(version.removeprefix("v")), path)


EXAMPLES = tuple(_example(path) for path in sorted((CONTRACTS / "examples").glob("*/*.json")))
