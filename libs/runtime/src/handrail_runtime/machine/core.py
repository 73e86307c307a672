"""What a stateful service gives to the shell: a pure core. No clock, no ids, no I/O, no log inside."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from handrail_contracts.envelope import Message
from handrail_contracts.journal import Record

S = TypeVar("S")


class Kind(Enum):
    """How a message to others is sent, and when it is sent again.

    REQUEST: stamped; after the journal acknowledged; again after every claim while the state says that it is outstanding.
    NOTICE: stamped; after the journal acknowledged; again after a crash until a marker says that it was acknowledged.
    FACT: for the public, who reads no fences; after the journal was read back; again like a notice.
    """

    REQUEST = "request"
    NOTICE = "notice"
    FACT = "fact"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to others. Without `partition` its key decides."""

    kind: Kind
    topic: str
    key: str
    message: Message
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Timer:
    """`token` comes back as `TimerDue` at or after `due` (seconds since the epoch); a stale one must decide nothing."""

    due: float
    token: str


@dataclass(frozen=True, slots=True)
class TimerDue:
    token: str


class Refused(Exception):
    """The input can't be decided on, ever: it goes to the dead letters with this code and reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Missing(Exception):
    """Deciding needs something that the catalogue does not hold yet (a definition): catch up, then try once more."""


class TooLarge(Exception):
    """What an input led to does not fit into one journal record."""


class Instead(Enum):
    """Why an input is decided in another way: its first decision did not fit, or what it needs does not exist."""

    TOO_LARGE = "too_large"
    MISSING = "missing"


class Catalog(Protocol):
    """A table that decisions need and that a topic feeds."""

    async def catch_up(self) -> None:
        """Returns when everything that the topic held at the call is in the table."""


@dataclass(frozen=True, slots=True)
class CommandTopic:
    """A topic that commands go to. `spread` if any journal partition may write to any of its partitions."""

    name: str
    spread: bool


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which topics a core lives on. Inputs and journal are co-partitioned. `fenced_inputs` carry others' commands.

    `seldom` are inputs that are fetched apart, so that a fetch for the busy ones does not look at them each time. `begins`
    is the input that begins something new: it waits while enough goes on (docs/adr/0012). With `chained` each record carries
    the hash of all that was accepted before it (docs/adr/0025).
    """

    service: str
    journal: str
    snapshots: str
    inputs: tuple[str, ...]
    fenced_inputs: frozenset[str]
    commands: tuple[CommandTopic, ...]
    record: type[Record]
    fold_version: int
    seldom: frozenset[str] = frozenset()
    begins: str | None = None
    chained: bool = False


class Core(Protocol[S]):
    """The rules of a stateful service.

    `decide` works on a live state through `emit`, which records an event and evolves the state with it, so later parts
    of one decision see the earlier ones. A decision that can't be journaled costs the partition's memory, never its
    history: the shell folds the journal again.
    """

    wiring: Wiring

    def new(self, execution_id: str) -> S: ...

    def decide(
        self, state: S, message: Any, now: float, emit: Callable[[Any], None], ended: Callable[[str], bool]
    ) -> None:
        """`ended` tells whether an id is among those that lately ended. Raises `Refused` or `Missing`."""

    def decide_instead(self, state: S, message: Any, why: Instead, now: float, emit: Callable[[Any], None]) -> None:
        """What to do with an input that can't be decided in the ordinary way. Raises `Refused` if nothing."""

    def evolve(self, state: S, event: Any, record: Record) -> None:
        """The only thing that changes state; `record` gives time and workflow. Events of every release are understood."""

    def react(
        self, state: S, event: Any, record: Record, partition: int, *, requests: bool = True
    ) -> Iterable[Outgoing]:
        """What the event makes the service say; a fold asks for no `requests`, since `outstanding` knows the open ones."""

    def outstanding(self, state: S, partition: int) -> Iterable[Outgoing]:
        """The requests that the state still waits for, equal to the ones that `react` made."""

    def timers(self, event: Any) -> Iterable[Timer]: ...

    def live_timers(self, state: S) -> Iterable[Timer]: ...

    def workflow_id(self, state: S) -> str: ...

    def ending(self, event: Any, execution_id: str) -> str | None:
        """An id to remember as ended, so that a late duplicate does not begin it again."""

    def is_finished(self, state: S) -> bool:
        """Nothing can happen any more: the state leaves memory."""

    def is_parked(self, state: S) -> bool:
        """Only people or timers can move it: the state is packed."""

    def busy_for(self, state: S) -> tuple[str, str] | None:
        """The tenant (organization, project) for whom it works on now, for a core with inputs that begin something."""

    def pack(self, state: S) -> bytes: ...

    def unpack(self, data: bytes) -> S: ...
