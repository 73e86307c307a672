"""The service desk in one object: set up before the first request, keys that stand for the platform's, and what is waited for."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from handrail_client import CustomerServiceDesk, ExecutionFailed, Forbidden, Unavailable, UnknownKey
from unit.client.doors import Door, answer, refused

Json = dict[str, Any]
INQUIRY: Json = {
    "id": "i", "customer_id": "c", "inquiry": "help", "topic": "account", "status": "answered", "response": "Done.",
    "agent": "Frontline 1", "tier": "Frontline", "escalated": False, "escalations": [], "reviewer": "", "error": "",
    "confidence": 0.9, "created_at": "2026-02-18T11:15:02Z", "answered_at": "2026-02-18T11:15:03Z", "priority": "medium",
    "sla": {"first_answer_due": "2026-02-18T11:16:02Z", "resolution_due": "2026-02-19T11:15:02Z", "breached": []},
}  # fmt: skip
OPEN = INQUIRY | {"status": "open", "response": "", "agent": "", "tier": "", "answered_at": None}
WAITING = OPEN | {"status": "waiting", "escalated": True}
DESK: Json = {
    "tiers": [{"name": "Frontline", "agents": 3, "specialties": []}], "strategy": "least_loaded",
    "confidence_threshold": 0.7, "routing": [], "classifier": True, "model": "m", "instructions": "", "sla": {"x": 1},
    "history": 10, "human": {}, "name": "vip", "workflow_id": "w", "version": 1, "agents": [],
}  # fmt: skip


@dataclass
class Gateway:
    """Answers as the desk's routes do; `then` are the inquiry's states after the first one."""

    inquiry: Json = field(default_factory=lambda: INQUIRY)
    then: list[Json] = field(default_factory=list)
    refuse: dict[str, list[httpx2.Response]] = field(default_factory=dict)
    lost: int = 0

    def __post_init__(self) -> None:
        self.door = Door(self.reply)

    def reply(self, request: httpx2.Request) -> httpx2.Response:
        asked = f"{request.method} {request.url.path.removeprefix('/api/v1')}"
        if self.refuse.get(asked):
            return self.refuse[asked].pop(0)
        if asked == "POST /keys":
            lost, self.lost = self.lost, max(0, self.lost - 1)
            name = json.loads(request.content)["name"]
            return answer({"id": name, "name": name, "key": None if lost else f"hrk_{name}"}, 201)
        if asked.startswith("POST /keys/"):
            return answer({"id": "k", "name": "n", "key": "hrk_rotated"})
        if request.method == "DELETE":
            return httpx2.Response(204)
        if asked.startswith("PUT /desk/reviewers/"):
            return answer({"id": "r", "load": 0, "capacity": 10} | json.loads(request.content))
        if asked in ("GET /desk", "PUT /desk"):
            return answer(DESK)
        if asked == "GET /desk/inquiries/i":
            return answer(self.then.pop(0) if self.then else self.inquiry)
        return answer(self.inquiry)

    def desk(self, **options: Any) -> CustomerServiceDesk:
        given: Json = {"url": "http://gateway", "token": "t", "transport": self.door}
        return CustomerServiceDesk(**given | options)

    def asked(self) -> list[str]:
        return [f"{each.method} {each.url.path.removeprefix('/api/v1')}" for each in self.door.requests]

    def bodies(self, asked: str) -> list[Any]:
        pairs = zip(self.asked(), self.door.requests, strict=True)
        return [json.loads(request.content) for name, request in pairs if name == asked]


async def test_an_answer_is_a_plain_dict() -> None:
    gateway = Gateway()
    async with gateway.desk() as desk:
        found = await desk.handle(customer_id="c", inquiry="help")
    assert type(found) is dict
    assert (found["response"], found["agent"], found["escalated"]) == ("Done.", "Frontline 1", False)
    assert gateway.asked() == ["POST /desk/inquiries"]
    assert gateway.door.requests[0].url.params["desk"] == "default"
    assert gateway.bodies("POST /desk/inquiries") == [
        {"customer_id": "c", "inquiry": "help", "escalate": False, "wait_seconds": 10}
    ]


async def test_what_was_added_is_carried_out_once_in_its_order_before_the_next_request() -> None:
    gateway = Gateway()
    async with gateway.desk(tiers=["Support"], agents_per_tier=[5], name="vip") as desk:
        desk.add_human_reviewer(reviewer_id="sarah", name="Sarah", specialties={"refunds", "billing"})
        desk.add_api_key(api_key="mine", client_id="shop", permissions={"priority", "customer_service"})
        assert gateway.asked() == []
        await asyncio.gather(*(desk.handle("c", "help", api_key="mine") for _ in range(3)))
        desk.add_human_reviewer(reviewer_id="sarah", name="Sarah", specialties=["billing", "refunds"])
        desk.add_api_key("mine", "shop", ["customer_service", "priority"])
        desk.add_human_reviewer("omar", "Omar")
        await desk.handle("c", "help")
    inquired = "POST /desk/inquiries"
    assert gateway.asked() == [
        "GET /desk", "PUT /desk", "PUT /desk/reviewers/sarah", "POST /keys", inquired, inquired, inquired,
        "PUT /desk/reviewers/omar", inquired, "DELETE /keys/shop",
    ]  # fmt: skip
    [configured] = gateway.bodies("PUT /desk")
    assert (configured["tiers"], configured["sla"]) == ([{"name": "Support", "agents": 5}], {"x": 1}), "the rest stays"
    assert "workflow_id" not in configured
    assert gateway.bodies("POST /keys") == [
        {"name": "shop", "permissions": ["customer_service", "priority"], "roles": []}
    ]
    assert gateway.bodies("PUT /desk/reviewers/sarah")[0]["specialties"] == ["billing", "refunds"]
    assert [each for each in gateway.door.headers("X-API-Key") if each] == ["hrk_shop"] * 3
    assert not any(b"mine" in request.content for request in gateway.door.requests)
    assert {each.url.params.get("desk") for each in gateway.door.requests if "/desk/inq" in each.url.path} == {"vip"}


async def test_a_desk_that_is_so_already_is_left_as_it_is() -> None:
    gateway = Gateway()
    async with gateway.desk(tiers=["Frontline"], settings={"strategy": "least_loaded"}) as desk:
        await desk.handle("c", "help")
    assert "PUT /desk" not in gateway.asked()


async def test_what_could_not_be_set_up_is_tried_again_before_the_next_request() -> None:
    gateway = Gateway(refuse={"PUT /desk/reviewers/r": [refused(503, "BROKER_UNAVAILABLE")]})
    async with gateway.desk(retry_seconds=0) as desk:
        desk.add_human_reviewer("r")
        with pytest.raises(Unavailable):
            await desk.handle("c", "help")
        await desk.handle("c", "help")
    assert gateway.asked() == ["PUT /desk/reviewers/r", "PUT /desk/reviewers/r", "POST /desk/inquiries"]


async def test_a_key_whose_answer_was_lost_is_rotated() -> None:
    gateway = Gateway(lost=1)
    async with gateway.desk(enable_auth=True) as desk:
        desk.add_api_key("mine", "shop")
        await desk.handle("c", "help", api_key="mine")
    assert [each for each in gateway.door.headers("X-API-Key") if each] == ["hrk_rotated"]


async def test_a_key_with_other_permissions_takes_the_place_of_the_one_before() -> None:
    gateway = Gateway()
    async with gateway.desk() as desk:
        for client in ("first", "second"):
            desk.add_api_key("mine", client)
            await desk.handle("c", "help", api_key="mine")
        assert gateway.asked().count("DELETE /keys/first") == 1
    assert [each for each in gateway.door.headers("X-API-Key") if each] == ["hrk_first", "hrk_second"]


@pytest.mark.parametrize(("key", "told"), [(None, "given no api_key"), ("hers", "nobody has added")])
async def test_with_auth_nobody_comes_in_without_a_key_that_was_added(key: str | None, told: str) -> None:
    gateway = Gateway()
    async with gateway.desk(enable_auth=True) as desk:
        desk.add_api_key("mine", "shop")
        with pytest.raises(UnknownKey, match=told) as caught:
            await desk.handle("c", "help", api_key=key)
    assert "hers" not in str(caught.value) and "POST /desk/inquiries" not in gateway.asked()


async def test_what_the_key_may_not_do_is_the_gateways_to_say() -> None:
    gateway = Gateway(refuse={"POST /desk/inquiries": [refused(403, "FORBIDDEN")]})
    async with gateway.desk() as desk:
        desk.add_api_key("mine", "shop")
        with pytest.raises(Forbidden):
            await desk.handle("c", "help", api_key="mine", priority="urgent")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handrail_client.customer_service.FIRST_LOOK", 0.001)


@pytest.mark.usefixtures("quick")
async def test_it_is_asked_again_until_it_is_answered() -> None:
    gateway = Gateway(OPEN, then=[WAITING, WAITING, INQUIRY | {"reviewer": "sarah"}])
    async with gateway.desk() as desk:
        assert (await desk.handle("c", "help"))["reviewer"] == "sarah"
    assert gateway.asked() == ["POST /desk/inquiries", *["GET /desk/inquiries/i"] * 3]


async def test_what_still_waits_for_a_person_comes_back_as_that() -> None:
    gateway = Gateway(WAITING)
    async with gateway.desk() as desk:
        found = await desk.handle("c", "help", escalate=True, timeout=0)
        assert (found["status"], found["escalated"], found["response"]) == ("waiting", True, "")
        assert (await desk.find(found["id"]))["status"] == "waiting"


async def test_what_has_failed_is_an_error() -> None:
    gateway = Gateway(OPEN | {"status": "failed"})
    async with gateway.desk() as desk:
        with pytest.raises(ExecutionFailed, match="execution i: failed"):
            await desk.handle("c", "help")


def test_each_tier_needs_its_number_of_agents() -> None:
    with pytest.raises(ValueError, match="2 tiers and 1 numbers"):
        Gateway().desk(tiers=["a", "b"], agents_per_tier=[1])
