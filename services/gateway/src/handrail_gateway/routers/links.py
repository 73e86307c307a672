"""Decision links: an e-mail leads here. Looking decides nothing; the button does, once."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Request
from handrail_runtime.signing import DecisionLink, read_link
from pydantic import ValidationError
from starlette.responses import HTMLResponse

from handrail_gateway import gates
from handrail_gateway.answers import parsed
from handrail_gateway.decision_page import asked, told
from handrail_gateway.gates import OriginDep
from handrail_gateway.gateway import Gateway, GatewayDep
from handrail_gateway.idempotency import request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import DecisionRequest

router = APIRouter(prefix="/decide", include_in_schema=False)

Token = Annotated[str, Path(min_length=1, max_length=4000)]


@router.get("/{token}", response_class=HTMLResponse)
async def look(token: Token, gateway: GatewayDep) -> HTMLResponse:
    try:
        link, caller = _read(gateway, token)
        gate = await gates.find_gate(gateway, caller, link.approval_id, "approval")
        await _check_unused(gateway, caller, link)
        if gate["status"] != "pending":
            return told("Decided already", f"It was {gate['status']} before.", 409)
        return asked(gate, parsed(gate["show"]), link.person)
    except Problem as problem:
        return _refused(problem)


@router.post("/{token}", response_class=HTMLResponse)
async def decide(token: Token, request: Request, gateway: GatewayDep, origin: OriginDep) -> HTMLResponse:
    fields = {name: values[-1] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
    try:
        link, caller = _read(gateway, token)
        body = DecisionRequest.model_validate(fields)
        await _check_unused(gateway, caller, link)
        from_mail = origin.model_copy(update={"via": "link"})
        answer = await gates.decide(gateway, caller, link.approval_id, body, _key(link), from_mail)
    except ValidationError:
        return told("Not understood", "Choose one of the two buttons.", 422)
    except Problem as problem:
        return _refused(problem)
    if answer.status_code == 202:
        return told("Submitted", "Your decision is on its way. Look at the approval to see whether it counted.", 202)
    return told("Thank you", f"Your decision counts: {body.decision}.", 200)


def _read(gateway: Gateway, token: str) -> tuple[DecisionLink, Caller]:
    """Raises a `Problem` for a link that is none of ours, or that is over."""
    link = read_link(gateway.webhook_key, token) if gateway.webhook_key else None
    if link is None:
        raise Problem(404, "NOT_FOUND", "There is no such link. Copy it whole from the e-mail.")
    if link.expires < gateway.now():
        raise Problem(410, "LINK_EXPIRED", "This link has expired. Sign in to decide, or ask for a reminder.")
    return link, Caller(link.person, link.organization_id, link.project_id, float(link.expires))


def _key(link: DecisionLink) -> str:
    return f"link/{link.notice_id}"


async def _check_unused(gateway: Gateway, caller: Caller, link: DecisionLink) -> None:
    submission = request_id(caller, f"approvals/{link.approval_id}", _key(link))
    whose = (caller.organization_id, caller.project_id, link.approval_id)
    row = await gateway.database.row("submission", *whose, submission)
    if row is not None and row["word"] is not None:
        raise Problem(409, "LINK_USED", "This link has been used: your decision is on record.")


def _refused(problem: Problem) -> HTMLResponse:
    titles = {404: "No such link", 409: "Nothing changed", 410: "Expired", 403: "Not yours to decide"}
    return told(titles.get(problem.status, "That did not work"), problem.detail, problem.status)
