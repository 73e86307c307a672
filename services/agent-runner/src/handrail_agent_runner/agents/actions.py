"""What people have approved is carried out: an e-mail is sent, an address is called, a tool is used. Once."""

from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Any

from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import JsonObject
from handrail_contracts.steps import StepRequested
from handrail_runtime.settings import Settings
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from handrail_agent_runner.agents.api_call import ApiCall
from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.mail import Unanswered, recipients, send
from handrail_agent_runner.once import once, outcome_unknown
from handrail_agent_runner.tools import Toolbox


class Mail(BaseModel):
    """The data of an action of the type `email`."""

    recipient: str = Field(validation_alias=AliasChoices("recipient", "to"), min_length=3, max_length=320, pattern="@")
    subject: str = Field(min_length=1, max_length=500)
    body: str = Field(max_length=200_000)
    cc: list[str] = Field([], max_length=50)
    reply_to: str = Field("", max_length=320)
    in_reply_to: str = Field("", max_length=500, description="the Message-ID that it answers")


class Actions:
    """Raises `AgentFailure`: VALIDATION_ERROR if the data do not fit the action, TOOL_ERROR if it could not be done."""

    inline = None

    def __init__(self, settings: Settings, toolbox: Toolbox, api_call: ApiCall) -> None:
        self._settings, self._toolbox, self._api_call = settings, toolbox, api_call

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        assert request.action is not None, "the scheduler says how"
        match request.action.type:
            case "email":
                message = _message(request, self._settings)
                return await once("an e-mail", request, progress, lambda: self._send(message, request))
            case "webhook":
                call = {"method": "POST", "url": request.action.url, "body": request.input}
                return await self._api_call.execute(request.model_copy(update={"input": call}), progress)
            case "tool":
                return await self._use(request.action.tool, request, progress)

    async def _use(self, name: str, request: StepRequested, progress: Progress) -> Any:
        tool = await self._toolbox.tool(name, request)
        arguments: JsonObject = request.input if isinstance(request.input, dict) else {}
        return await tool.call_once(name, request.model_copy(update={"input": arguments}), progress)

    async def _send(self, message: EmailMessage, request: StepRequested) -> JsonObject:
        try:
            return await send(message, self._settings)
        except Unanswered as error:
            raise outcome_unknown(f"step {request.step_id}", "an e-mail", request.input) from error


def _message(request: StepRequested, settings: Settings) -> EmailMessage:
    """Its Message-ID follows from the step run: servers that know it drop a second one."""
    try:
        mail = Mail.model_validate(request.input)
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = settings.mail_from, mail.recipient, mail.subject
        if mail.cc:
            message["Cc"] = ", ".join(mail.cc)
        if mail.reply_to:
            message["Reply-To"] = mail.reply_to
        if mail.in_reply_to:
            message["In-Reply-To"] = message["References"] = mail.in_reply_to
        recipients(message)
    except ValidationError as error:
        place, why = first_mistake(error)
        raise AgentFailure("VALIDATION_ERROR", f"that is no e-mail: {place}: {why}", retryable=False) from error
    except ValueError as error:  # a line break in a header, or no address
        raise AgentFailure("VALIDATION_ERROR", f"that is no e-mail: {error}", retryable=False) from error
    domain = parseaddr(settings.mail_from)[1].rpartition("@")[2]
    message["Message-ID"], message["Date"] = f"<{request.run_id}@{domain}>", formatdate(request.occurred_at.timestamp())
    message.set_content(mail.body)
    return message
