"""Approvals in full, over HTTP and SMTP: several people, reviewers, links in e-mails, callbacks, and what can be proved of it."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import httpx2
import pytest
from handrail.chains import read_chains
from handrail_runtime.settings import Settings
from handrail_runtime.signing import stamped

from product.conftest import Api, Json, step
from product.test_suggestions import mails


def gate(**rules: Any) -> Json:
    return step(
        "gate", "human_approval", parameters={"message": "Refund 129.90 EUR?", "show": {"amount": 129.9}, **rules}
    )


async def pending(api: Api, execution_id: str, holds: Callable[[Json], object] = bool) -> Json:
    """The gate of the execution, once that holds."""
    async with asyncio.timeout(20):
        while True:
            for found in (await api.get("/approvals", execution_id=execution_id))["items"]:
                if holds(found):
                    return dict(found)
            await asyncio.sleep(0.03)


async def asked(api: Api, **rules: Any) -> tuple[str, Json]:
    execution_id = await api.start(await api.workflow(gate(**rules)))
    return execution_id, await pending(api, execution_id)


async def mailed(api: Api, person: str, subject: str) -> Json:
    async with asyncio.timeout(20):
        while True:
            for mail in await mails(api, person):
                if mail["subject"].startswith(subject):
                    return mail
            await asyncio.sleep(0.05)


async def test_two_of_three_decide_and_each_vote_is_on_record(api: Api) -> None:
    execution_id, found = await asked(api, approvers=["ada", "bob", "cy"], require=2)
    url = f"/approvals/{found['id']}"
    assert (await api.post(url, {"decision": "approved"}, 200))["status"] == "pending"
    assert (await api.post(url, {"decision": "approved"}, 409))["code"] == "ALREADY_DECIDED"
    async with api.as_tenant("acme", "eve") as eve:
        assert (await eve.post(url, {"decision": "approved"}, 403))["code"] == "FORBIDDEN"
    async with api.as_tenant("acme", "bob") as bob:
        assert (await bob.post(url, {"decision": "approved", "digest": "0" * 64}, 409))["code"] == "CHANGED"
        seen = (await bob.get(url))["digest"]
        decided = await bob.post(url, {"decision": "approved", "comment": "fine", "digest": seen}, 200)
    assert (decided["status"], decided["decided_by"]) == ("approved", "bob")
    assert (await api.ended(execution_id))["status"] == "completed"
    shown = await api.get(url)
    assert [(vote["by"], vote["decision"]) for vote in shown["votes"]] == [("ada", "approved"), ("bob", "approved")]
    votes = [entry["event"] for entry in shown["history"] if entry["event"]["type"] == "approval.voted"]
    assert {vote["digest"] for vote in votes} == {seen}
    assert all(vote["origin"]["address"] == "127.0.0.1" for vote in votes)


async def test_whoever_started_it_does_not_approve_it(api: Api) -> None:
    execution_id, found = await asked(api, four_eyes=True)
    told = await api.post(f"/approvals/{found['id']}", {"decision": "approved"}, 403)
    assert "somebody else has to decide" in told["detail"]
    async with api.as_tenant("acme", "bob") as bob:
        await bob.post(f"/approvals/{found['id']}", {"decision": "approved"}, 200)
    assert (await api.ended(execution_id))["status"] == "completed"


async def test_nor_who_started_it_with_a_key_of_theirs(api: Api) -> None:
    key = await api.post("/keys", {"name": "starter", "roles": ["operator"]}, 201)
    workflow = await api.workflow(gate(four_eyes=True))
    async with httpx2.AsyncClient(base_url=api.client.base_url, headers={"X-API-Key": key["key"]}) as program:
        answer = await program.post(f"/workflows/{workflow}/execute", json={})
        assert answer.status_code == 202, answer.text
    execution_id = answer.json()["execution_id"]
    url = f"/approvals/{(await pending(api, execution_id))['id']}"
    for path, body in ((url, {"decision": "approved"}), (f"{url}/claim", {})):
        assert "somebody else has to decide" in (await api.post(path, body, 403))["detail"]
    async with api.as_tenant("acme", "bob") as bob:
        assert "somebody else" in (await bob.post(f"{url}/delegate", {"to": "ada"}, 403))["detail"]
        await bob.post(url, {"decision": "approved"}, 200)
    assert (await api.ended(execution_id))["status"] == "completed"


async def test_the_pool_assigns_by_mail_a_link_decides_once(api: Api) -> None:
    async with api.as_tenant("reviewed") as own:
        address = "lena@example.com"
        await own.put("/reviewers/lena", {"name": "Lena", "email": address, "specialties": ["refunds"], "capacity": 1})
        await own.put("/reviewers/omar", {"name": "Omar", "email": "omar@example.com", "specialties": ["law"]})
        execution_id, _ = await asked(own, assign=True, specialties=["refunds"])
        found = await pending(own, execution_id, lambda gate: gate["assignee"])
        assert found["assignee"] == "lena"
        loads = {each["id"]: each["load"] for each in (await own.get("/reviewers"))["items"]}
        assert loads == {"lena": 1, "omar": 0}
        assert (
            "lena is to decide"
            in (await own.post(f"/approvals/{found['id']}", {"decision": "approved"}, 403))["detail"]
        )
        mail = await mailed(own, address, "Your decision: Refund")
        [link] = re.findall(r"http://\S+/decide/\S+", mail["body"].replace("=\n", ""))
        path = link[link.index("/decide/") :]
        base = api.platform.cluster.url("gateway")
        async with httpx2.AsyncClient(base_url=base) as anyone:
            page = await anyone.get(path)
            assert page.status_code == 200 and "Refund 129.90 EUR?" in page.text and "129.9" in page.text
            assert (await own.get(f"/approvals/{found['id']}"))["status"] == "pending", "looking decides nothing"
            form = {"decision": "approved", "comment": "<b>ok</b>"}
            assert (await anyone.post(path, data=form)).status_code == 200
            again = await anyone.post(path, data={"decision": "rejected"})
            assert (again.status_code, "has been used" in again.text) == (409, True)
            assert (await anyone.get(path[:-3] + "AAA")).status_code == 404
        assert (await own.ended(execution_id))["status"] == "completed"
        [vote] = (await own.get(f"/approvals/{found['id']}"))["votes"]
        assert (vote["by"], vote["comment"]) == ("lena", "<b>ok</b>")


async def test_it_is_escalated_delegated_claimed_and_a_substitute_decides(api: Api) -> None:
    execution_id, found = await asked(
        api,
        approvers=["bob"],
        escalation=[{"after_seconds": 0.3, "approvers": ["cy", "dan"]}],
        remind_after_seconds=0.1,
    )
    found = await pending(api, execution_id, lambda gate: gate["escalations"])
    assert found["approvers"] == ["cy", "dan"]
    url = f"/approvals/{found['id']}"
    async with api.as_tenant("acme", "cy") as cy:
        assert (await cy.post(f"{url}/claim", {}, 200))["assignee"] == "cy"
        assert (await cy.post(f"{url}/delegate", {"to": "emil", "comment": "yours"}, 200))["assignee"] == "emil"
    async with api.as_tenant("acme", "dan", "approver") as dan:
        assert (await dan.post(f"{url}/release", {}, 409))["code"] == "NOT_YOURS"
    now = datetime.now(UTC)
    absence = {
        "start": f"{now - timedelta(hours=1):%FT%TZ}",
        "end": f"{now + timedelta(hours=1):%FT%TZ}",
        "substitute": "fay",
    }
    await api.put("/reviewers/emil", {"absences": [absence]})
    async with api.as_tenant("acme", "fay") as fay:
        await fay.post(url, {"decision": "rejected", "comment": "no"}, 200)
    assert (await api.ended(execution_id))["error"]["code"] == "APPROVAL_REJECTED"
    types = [entry["event"]["type"] for entry in (await api.get(url))["history"]]
    assert types.count("approval.handed") == 3 and "approval.reminded" in types
    assert (await api.get(url))["votes"][0]["on_behalf_of"] == "emil"
    await api.delete("/reviewers/emil", 204)


async def test_a_batch_says_of_each_what_became_of_it(api: Api) -> None:
    open_ = [await asked(api, priority=priority) for priority in ("low", "urgent", "high")]
    ids = [found["id"] for _, found in open_]
    queue = (await api.get("/approvals", status="pending", order="priority", limit=200))["items"]
    assert [item["id"] for item in queue if item["id"] in ids] == [ids[1], ids[2], ids[0]]
    wanted = [{"id": gate_id, "decision": "approved"} for gate_id in (*ids, "no-such-gate")]
    told = await api.post("/approvals/decisions", {"decisions": wanted}, 200)
    assert [item["status"] for item in told["items"]] == [200, 200, 200, 404]
    assert {item["approval"]["status"] for item in told["items"][:3]} == {"approved"}
    for execution_id, _ in open_:
        assert (await api.ended(execution_id))["status"] == "completed"


class Receiver:
    """Refuses the first call, and keeps what came."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(503 if len(receiver.calls) == 1 else 200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/decided"


@pytest.fixture
def receiver() -> Any:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


async def test_a_callback_is_signed_and_tried_again(api: Api, receiver: Receiver) -> None:
    _, found = await asked(api, callback=receiver.url)
    await api.post(f"/approvals/{found['id']}", {"decision": "approved"}, 200)
    async with asyncio.timeout(20):
        while not any(
            e["event"]["type"] == "approval.notified" for e in (await api.get(f"/approvals/{found['id']}"))["history"]
        ):
            await asyncio.sleep(0.1)
    (first, _), (headers, body) = receiver.calls
    assert first["idempotency-key"] == headers["idempotency-key"]
    secret = (await api.get("/reviewers/callbacks/secret"))["secret"]
    signature = headers["x-handrail-signature"]
    assert signature == stamped(secret, body, int(signature.partition(",")[0].removeprefix("t=")))
    assert b'"decision":"approved"' in body


async def test_the_trail_is_paged_and_the_chain_holds(api: Api) -> None:
    _, found = await asked(api)
    await api.post(f"/approvals/{found['id']}", {"decision": "approved"}, 200)
    entries, cursor = [], None
    while True:
        page = await api.get("/audit/approvals", limit=10, **({} if cursor is None else {"cursor": cursor}))
        entries += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    mine = [entry for entry in entries if entry["approval_id"] == found["id"]]
    assert [entry["event"]["type"] for entry in mine] == ["approval.opened", "approval.voted", "approval.closed"]
    settings = Settings(brokers=api.platform.broker.bootstrap)
    chains = await read_chains(settings, [])
    assert [problem for chain in chains for problem in chain.problems] == []
    [chain] = [chain for chain in chains if chain.partition == mine[-1]["partition"]]
    assert chain.records > 0
    if chain.offset == mine[-1]["offset"]:
        assert chain.link == mine[-1]["link"]
    kept = [{"partition": mine[-1]["partition"], "offset": mine[-1]["offset"], "link": mine[-1]["link"]}]
    assert [p for chain in await read_chains(settings, kept) for p in chain.problems] == []
    kept[0]["link"] = "f" * 64
    assert len([p for chain in await read_chains(settings, kept) for p in chain.problems]) == 1
