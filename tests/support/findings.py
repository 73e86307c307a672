"""What a check says: violations of named rules, and how much it looked at."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Violation:
    """`execution_id` is empty where a rule is not about one execution."""

    rule: str
    execution_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    violations: tuple[Violation, ...]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def rules(self) -> set[str]:
        return {violation.rule for violation in self.violations}

    def require(self) -> Self:
        """Raises with the first violations of each rule, and all counts."""
        if self.ok:
            return self
        raise AssertionError(
            f"{len(self.violations)} violations; counts {dict(self.counts)}\n" + "\n".join(self._told())
        )

    def _told(self, each: int = 5) -> Iterable[str]:
        for rule, count in Counter(v.rule for v in self.violations).most_common():
            yield f"{rule}: {count}"
            found = [v for v in self.violations if v.rule == rule]
            yield from (f"  {v.execution_id or '-'}: {v.detail}" for v in found[:each])
