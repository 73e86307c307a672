"""Messages of the platform to itself: fences, snapshots, dead letters."""

from typing import Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import JsonObject, Message, Model


class Fence(Model):
    """Commands of `owner` with an epoch at or below `epoch` are dead. Keyed by owner in `handrail.fences`."""

    event_type: Literal["handrail.fence"] = "handrail.fence"
    schema_version: Literal[1] = 1
    owner: str
    epoch: int = Field(ge=-1)


class SnapshotChunk(Model):
    """A piece of the state of one journal partition: true up to and including journal offset `offset`.

    A snapshot counts if all its `chunks` are there with one `snapshot_id` and the SHA-256 of the entries, in order, is
    `checksum`. Only records that were read back are in it, so a late one is old, never wrong.
    """

    event_type: Literal["handrail.snapshot"] = "handrail.snapshot"
    schema_version: Literal[1] = 1
    snapshot_id: str
    fold_version: int
    partition: int
    epoch: int
    next_seq: int
    offset: int
    acknowledged: int
    positions: dict[str, int]
    beyond: dict[str, tuple[tuple[int, int], ...]] = Field(
        {}, description="runs of offsets past the position that are decided, first and last of each; first chunk only"
    )
    chunk: int = Field(ge=0)
    chunks: int = Field(ge=1)
    checksum: str
    entries: tuple[str, ...] = Field((), description="base64 of one packed state each")
    ended: str = Field("", description="base64 of the digests of ids that ended lately, in order; first chunk only")
    chain: str = Field("", description="of a chained journal: the link of its last accepted record")


class DeadLetter(Message):
    """A record that `service` could not take, as it was. `event_id` belongs to the place it came from."""

    event_type: Literal["dead_letter"] = "dead_letter"
    schema_version: Literal[1] = 1
    service: str
    code: str
    reason: str
    topic: str
    partition: int
    offset: int
    recorded_at: AwareDatetime | None = None
    execution_id: str = ""
    key: str | None = Field(None, description="base64")
    value: str | None = Field(None, description="base64")
    headers: tuple[tuple[str, str | None], ...] = Field((), description="name, base64 of the value")
    details: JsonObject = {}
