"""Just enough of Kafka's wire format to recognise a frame, say what it is about, and rewrite the addresses in it.

A frame is what follows the four length bytes. Layouts: https://kafka.apache.org/protocol (message definitions).
"""

import struct
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

Direction = Literal["request", "response"]
Route = Callable[[int, str, int], tuple[str, int]]
"""Node id, host and port as the broker says them -> host and port as the client shall see them."""


class Api(IntEnum):
    """Api keys, the ones that tests aim at. A frame may carry others: they are plain integers."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CLUSTER = 60


FIRST_FLEXIBLE_REQUEST = {Api.PRODUCE: 9, Api.FETCH: 12}
FIRST_FLEXIBLE_RESPONSE = {Api.METADATA: 9, Api.FIND_COORDINATOR: 3, Api.DESCRIBE_CLUSTER: 0}
LAST_KNOWN_VERSION = {Api.METADATA: 13, Api.FIND_COORDINATOR: 6, Api.DESCRIBE_CLUSTER: 2}
PRODUCE_WITH_TOPIC_IDS = 13


@dataclass(frozen=True, slots=True)
class Frame:
    """One request or response. A response has the api, version and client of the request that it answers."""

    direction: Direction
    api: int
    version: int
    correlation_id: int
    client_id: str
    payload: bytes
    link: int = 0
    request: "Frame | None" = None

    def mentions(self, topic: str) -> bool:
        """Whether this frame, or the request that it answers, names the topic (in versions without topic ids)."""
        name = topic.encode()
        texts = (struct.pack(">h", len(name)) + name, bytes([len(name) + 1]) + name)
        payloads = [self.payload] if self.request is None else [self.payload, self.request.payload]
        return any(text in payload for text in texts for payload in payloads)

    def writes_to(self, topic: str, partition: int | None = None) -> bool:
        """Whether this is a Produce request for the topic (and partition), or the answer to one."""
        request = self.request or self
        if request.api != Api.PRODUCE or request.direction != "request":
            return False
        return any(t == topic and partition in (None, p) for t, p in produce_targets(request))


class Reader:
    """Walks through a payload. `flexible` chooses between the old and the compact form of texts and arrays."""

    def __init__(self, data: bytes, flexible: bool, position: int = 0) -> None:
        self.data, self.flexible, self.position = data, flexible, position

    def skip(self, count: int) -> None:
        self.position += count

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.data, self.position)
        self.position += struct.calcsize(form)
        return int(value)

    def uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def array(self) -> range:
        """The positions of an array's elements; a null array has none."""
        return range(self.uvarint() - 1 if self.flexible else self.number(">i"))

    def text(self) -> str | None:
        return self.old_text() if not self.flexible else self._text(self.uvarint() - 1)

    def old_text(self) -> str | None:
        return self._text(self.number(">h"))

    def _text(self, length: int) -> str | None:
        if length < 0:
            return None
        self.position += length
        return self.data[self.position - length : self.position].decode()

    def skip_bytes(self) -> None:
        length = self.uvarint() - 1 if self.flexible else self.number(">i")
        self.skip(max(length, 0))

    def skip_tags(self) -> None:
        if self.flexible:
            for _ in range(self.uvarint()):
                self.uvarint()
                self.skip(self.uvarint())


def parse_request(payload: bytes, link: int = 0) -> Frame:
    reader = Reader(payload, flexible=False)
    api, version, correlation_id = reader.number(">h"), reader.number(">h"), reader.number(">i")
    return Frame("request", api, version, correlation_id, reader.old_text() or "", payload, link)


def parse_response(payload: bytes, unanswered: MutableMapping[int, Frame], link: int = 0) -> Frame:
    """Takes the request that this answers out of `unanswered` (by correlation id)."""
    (correlation_id,) = struct.unpack_from(">i", payload)
    request = unanswered.pop(correlation_id, None)
    if request is None:
        raise ValueError(f"an answer to correlation id {correlation_id}, which nobody asked")
    return Frame("response", request.api, request.version, correlation_id, request.client_id, payload, link, request)


def produce_targets(request: Frame) -> Iterator[tuple[str, int]]:
    """Topic and partition of every batch in a Produce request (versions 3 to 12)."""
    reader = _produce_body(request)
    reader.skip(2 + 4)  # acks, timeout
    for _ in reader.array():
        topic = reader.text() or ""
        for _ in reader.array():
            yield topic, reader.number(">i")
            reader.skip_bytes()
            reader.skip_tags()
        reader.skip_tags()


def expects_response(request: Frame) -> bool:
    """False for a Produce request with acks=0: the broker never answers it."""
    return request.api != Api.PRODUCE or request.version < 3 or _produce_body(request).number(">h") != 0


def _produce_body(request: Frame) -> Reader:
    if not 3 <= request.version < PRODUCE_WITH_TOPIC_IDS:
        raise ValueError(f"Produce v{request.version} does not name its topics; only v3 to v12 are understood here")
    reader = Reader(request.payload, request.version >= FIRST_FLEXIBLE_REQUEST[Api.PRODUCE], position=8)
    reader.old_text()  # client id
    reader.skip_tags()
    reader.text()  # transactional id
    return reader


def rewrite_addresses(response: Frame, route: Route) -> bytes:
    """The payload of a response with every broker's host and port replaced; other responses come back untouched."""
    layout = _LAYOUTS.get(response.api)
    if layout is None:
        return response.payload
    if response.version > LAST_KNOWN_VERSION[Api(response.api)]:
        name = Api(response.api).name
        raise ValueError(f"{name} v{response.version} is newer than the layouts known here; add it to kafka_wire.py")
    reader = Reader(response.payload, response.version >= FIRST_FLEXIBLE_RESPONSE[Api(response.api)], position=4)
    reader.skip_tags()
    pieces, copied = bytearray(), 0
    for start, end, address in layout(reader, response.version, route):
        pieces += response.payload[copied:start] + address
        copied = end
    return bytes(pieces) + response.payload[copied:]


Edit = tuple[int, int, bytes]


def _metadata(reader: Reader, version: int, route: Route) -> Iterator[Edit]:
    if version >= 3:
        reader.skip(4)  # throttle time
    for _ in reader.array():
        yield _address(reader, route)
        if version >= 1:
            reader.text()  # rack
        reader.skip_tags()


def _find_coordinator(reader: Reader, version: int, route: Route) -> Iterator[Edit]:
    if version >= 1:
        reader.skip(4)  # throttle time
    if version >= 4:
        for _ in reader.array():
            reader.text()  # key
            yield _address(reader, route)
            reader.skip(2)  # error code
            reader.text()  # error message
            reader.skip_tags()
        return
    reader.skip(2)  # error code
    if version >= 1:
        reader.text()  # error message
    yield _address(reader, route)


def _describe_cluster(reader: Reader, version: int, route: Route) -> Iterator[Edit]:
    reader.skip(4 + 2)  # throttle time, error code
    reader.text()  # error message
    if version >= 1:
        reader.skip(1)  # endpoint type
    reader.text()  # cluster id
    reader.skip(4)  # controller
    for _ in reader.array():
        yield _address(reader, route)
        reader.text()  # rack
        if version >= 2:
            reader.skip(1)  # is fenced
        reader.skip_tags()


_LAYOUTS: dict[int, Callable[[Reader, int, Route], Iterator[Edit]]] = {
    Api.METADATA: _metadata,
    Api.FIND_COORDINATOR: _find_coordinator,
    Api.DESCRIBE_CLUSTER: _describe_cluster,
}


def _address(reader: Reader, route: Route) -> Edit:
    node = reader.number(">i")
    start = reader.position
    host, port = reader.text() or "", reader.number(">i")
    if host and port > 0:  # an answer "no coordinator" has an empty address
        host, port = route(node, host, port)
    name = host.encode()
    length = encode_uvarint(len(name) + 1) if reader.flexible else struct.pack(">h", len(name))
    return start, reader.position, length + name + struct.pack(">i", port)


def encode_uvarint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
