"""The wire reader is checked against aiokafka's own encoders, and by hand where aiokafka has no such version."""

import struct
from typing import Any

import pytest
from aiokafka.protocol.coordination import FindCoordinatorResponse_v0, FindCoordinatorResponse_v1
from aiokafka.protocol.metadata import (
    MetadataResponse_v0,
    MetadataResponse_v1,
    MetadataResponse_v2,
    MetadataResponse_v3,
    MetadataResponse_v5,
)
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceRequest_v8
from support.kafka_wire import (
    Api,
    Frame,
    encode_uvarint,
    expects_response,
    parse_request,
    parse_response,
    produce_targets,
    rewrite_addresses,
)


def moved(node: int, host: str, port: int) -> tuple[str, int]:
    return f"{host}-through-the-proxy-{node}", port + 1


def answer(api: Api, version: int, body: bytes) -> Frame:
    request = Frame("request", api, version, 7, "tester", b"")
    return parse_response(struct.pack(">i", 7) + body, {7: request})


def rewritten(response: type[Any], *fields: object) -> Any:
    frame = answer(Api(response.API_KEY), response.API_VERSION, response(*fields).encode())
    payload = rewrite_addresses(frame, moved)
    assert payload[:4] == frame.payload[:4]
    return response.decode(payload[4:])


TOPICS_V0 = [(0, "t", [(0, 0, 1, [1], [1])])]
TOPICS_V1 = [(0, "t", False, [(0, 0, 1, [1], [1])])]
TOPICS_V5: Any = [(0, "t", False, [(0, 0, 1, [1], [1], [])])]
BROKERS = [(1, "a", 10, "rack"), (2, "bb", 20, None)]
MOVED = [(1, "a-through-the-proxy-1", 11, "rack"), (2, "bb-through-the-proxy-2", 21, None)]


@pytest.mark.parametrize(
    ("response", "before", "after", "topics"),
    [
        (MetadataResponse_v1, (), (1,), TOPICS_V1),
        (MetadataResponse_v2, (), ("cluster", 1), TOPICS_V1),
        (MetadataResponse_v3, (0,), ("cluster", 1), TOPICS_V1),
        (MetadataResponse_v5, (0,), ("cluster", 1), TOPICS_V5),
    ],
)
def test_metadata_of_old_versions_is_readdressed(response: Any, before: Any, after: Any, topics: Any) -> None:
    result = rewritten(response, *before, BROKERS, *after, topics)
    assert result.brokers == MOVED
    assert result.topics == topics


def test_metadata_of_version_0_has_no_racks() -> None:
    result = rewritten(MetadataResponse_v0, [(1, "a", 10)], TOPICS_V0)
    assert result.brokers == [(1, "a-through-the-proxy-1", 11)]
    assert result.topics == TOPICS_V0


def test_coordinators_of_old_versions_are_readdressed() -> None:
    old = rewritten(FindCoordinatorResponse_v0, 0, 3, "c", 30)
    new = rewritten(FindCoordinatorResponse_v1, 0, 0, None, 3, "c", 30)
    assert (old.host, old.port) == (new.host, new.port) == ("c-through-the-proxy-3", 31)


def test_an_unavailable_coordinator_keeps_its_empty_address() -> None:
    result = rewritten(FindCoordinatorResponse_v1, 0, 15, "not available", -1, "", -1)
    assert (result.error_code, result.host, result.port) == (15, "", -1)


def compact(text: str | None) -> bytes:
    return b"\x00" if text is None else encode_uvarint(len(text) + 1) + text.encode()


def int32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


NO_TAGS = b"\x00"
ONE_TAG = b"\x01\x05\x03xyz"


@pytest.mark.parametrize("version", [9, 12, 13])
def test_flexible_metadata_is_readdressed(version: int) -> None:
    def body(host: str, port: int) -> bytes:
        broker = int32(1) + compact(host) + int32(port) + compact(None) + ONE_TAG
        return ONE_TAG + int32(0) + b"\x02" + broker + compact("cluster") + b"the rest"

    frame = answer(Api.METADATA, version, body("h" * 200, 10))
    assert rewrite_addresses(frame, moved)[4:] == body("h" * 200 + "-through-the-proxy-1", 11)


@pytest.mark.parametrize("version", [3, 4, 6])
def test_flexible_coordinators_are_readdressed(version: int) -> None:
    def body(host: str, port: int) -> bytes:
        address = int32(1) + compact(host) + int32(port)
        if version == 3:
            return NO_TAGS + int32(0) + b"\x00\x00" + compact(None) + address + NO_TAGS
        return NO_TAGS + int32(0) + b"\x02" + compact("group") + address + b"\x00\x00" + compact(None) + NO_TAGS * 2

    frame = answer(Api.FIND_COORDINATOR, version, body("h", 10))
    assert rewrite_addresses(frame, moved)[4:] == body("h-through-the-proxy-1", 11)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_describe_cluster_is_readdressed(version: int) -> None:
    def body(host: str, port: int) -> bytes:
        head = (
            NO_TAGS + int32(0) + b"\x00\x00" + compact(None) + (b"\x01" if version else b"") + compact("id") + int32(1)
        )
        fenced = b"\x00" if version >= 2 else b""
        return head + b"\x02" + int32(1) + compact(host) + int32(port) + compact(None) + fenced + NO_TAGS + b"the rest"

    frame = answer(Api.DESCRIBE_CLUSTER, version, body("h", 10))
    assert rewrite_addresses(frame, moved)[4:] == body("h-through-the-proxy-1", 11)


def test_a_layout_from_the_future_is_an_error_and_not_a_leak() -> None:
    with pytest.raises(ValueError, match="METADATA v99"):
        rewrite_addresses(answer(Api.METADATA, 99, b"anything"), moved)


def test_an_answer_that_nobody_asked_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="correlation id 8"):
        parse_response(int32(8), {})


def produce(version: int, acks: int = -1) -> Frame:
    build = ProduceRequest_v3 if version == 3 else ProduceRequest_v8
    request = build(None, acks, 1000, [("a.b", [(3, b"batch"), (4, b"batch")]), ("c", [(0, b"")])])
    header = request.build_request_header(correlation_id=5, client_id="tester")
    return parse_request(header.encode() + request.encode())


@pytest.mark.parametrize("version", [3, 8])
def test_a_produce_request_tells_its_partitions(version: int) -> None:
    frame = produce(version)
    assert (frame.api, frame.version, frame.correlation_id, frame.client_id) == (Api.PRODUCE, version, 5, "tester")
    assert list(produce_targets(frame)) == [("a.b", 3), ("a.b", 4), ("c", 0)]
    assert frame.writes_to("a.b")
    assert frame.writes_to("a.b", 4)
    assert not frame.writes_to("a.b", 5)
    assert not frame.writes_to("a")


def test_a_flexible_produce_request_tells_its_partitions() -> None:
    topic = compact("a.b") + b"\x02" + int32(3) + encode_uvarint(201) + b"x" * 200 + ONE_TAG + NO_TAGS
    body = compact(None) + b"\xff\xff" + int32(1000) + b"\x02" + topic + NO_TAGS
    frame = parse_request(struct.pack(">hhih", 0, 9, 5, 1) + b"c" + NO_TAGS + body)
    assert list(produce_targets(frame)) == [("a.b", 3)]
    assert expects_response(frame)


def test_the_answer_to_a_produce_request_knows_what_was_written() -> None:
    request = produce(8)
    response = parse_response(int32(5), {5: request})
    assert response.writes_to("c", 0)
    assert response.mentions("a.b")
    assert not response.mentions("b")


def test_only_acks_0_has_no_answer() -> None:
    assert not expects_response(produce(8, acks=0))
    assert expects_response(produce(8, acks=1))
