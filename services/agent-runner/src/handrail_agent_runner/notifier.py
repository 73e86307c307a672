"""Tells people and programs outside of gates: e-mails, and callbacks that are signed. At least once, with one id.

What can't be delivered is tried again for a minute or so, without holding up others; then it is told that it failed.
Positions are committed up to the contiguous finished watermark, once the outcome is on the log.
"""

import asyncio
import re
import time
from email.message import EmailMessage
from email.utils import formatdate, parseaddr

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from handrail_contracts import topics
from handrail_contracts.codec import DecodeError, cloud_event_headers, decode, encode
from handrail_contracts.ids import derive
from handrail_contracts.notifications import NotificationDelivered, NotificationRequested
from handrail_contracts.reviewers import Reviewer, ReviewerDefined
from handrail_runtime import bus
from handrail_runtime.settings import Settings
from handrail_runtime.signing import DecisionLink, callback_secret, link_token, stamped
from handrail_runtime.tables import TopicTable
from handrail_runtime.watermark import Watermark
from handrail_runtime.writer import Parcel, Writer, deliver
from prometheus_client import Counter

from handrail_agent_runner.agents.api_call import ApiCall, Call
from handrail_agent_runner.agents.base import AgentFailure
from handrail_agent_runner.announcing import AWAY
from handrail_agent_runner.conversation import SOURCE
from handrail_agent_runner.mail import Unanswered, send

log = structlog.get_logger()

GROUP = "handrail-notifier"
PAUSES = (1.0, 2.0, 5.0, 15.0, 45.0)
"""Seconds before each further attempt."""
AT_ONCE, MOST_OPEN = 16, 500
COMMIT_SECONDS, POLL_MS, RETRY_SECONDS = 1.0, 200, 1.0
ADDRESS_LENGTH = 320
ONE_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[a-z0-9-]+(\.[a-z0-9-]+)*", re.ASCII | re.IGNORECASE)
"""As HTML has it: tenants write these, and a header would take several of them, or more than that."""
SUBJECTS = {
    "asked": "Your decision: {title}",
    "reminder": "Still waiting for your decision: {title}",
    "escalated": "Passed on to you: {title}",
    "mention": "{title}",
}
NOTICES = Counter("handrail_notifications_total", "What people and programs were told of gates", ["kind", "status"])
Record = ConsumerRecord[bytes | None, bytes | None]


class Notifier:
    """Several share the work: each gate's notices are told by one of them, in no order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reviewers: dict[tuple[str, str, str], Reviewer] = {}
        self._table = TopicTable(settings, topics.REVIEWER_DEFINED, self._learn)
        self._calls = ApiCall(settings)
        self._permits = asyncio.Semaphore(AT_ONCE)
        self._marks: dict[TopicPartition, Watermark] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled; an outage of the broker makes it start over."""
        while True:
            try:
                await self._follow()
            except AWAY as error:
                log.warning("notifier_starts_over", error=str(error) or repr(error))
            await asyncio.sleep(RETRY_SECONDS)

    def _learn(self, message: ReviewerDefined) -> None:
        reviewer = message.reviewer
        whose = (message.organization_id, message.project_id, reviewer.reviewer_id)
        if message.removed:
            self._reviewers.pop(whose, None)
        else:
            self._reviewers[whose] = reviewer

    async def _follow(self) -> None:
        writer = await Writer.start(self._settings, "handrail-agent-runner-notices")
        consumer = await bus.start_group_reader(
            self._settings, "handrail-notifier", GROUP, topics.NOTIFICATION_REQUESTED
        )
        self._marks, last_commit = {}, time.monotonic()
        try:
            while True:
                room = MOST_OPEN - len(self._running)
                if room > 0:
                    fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=room)
                    await self._take(fetched, writer)
                else:
                    await asyncio.sleep(POLL_MS / 1000)
                if time.monotonic() - last_commit > COMMIT_SECONDS:
                    last_commit = time.monotonic()
                    await self._commit(consumer)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await bus.stop(consumer)
            await writer.stop()
            await self._table.close()

    async def _take(self, fetched: dict[TopicPartition, list[Record]], writer: Writer) -> None:
        if fetched:
            await self._table.catch_up()  # whoever is assigned was defined before
        for place, records in fetched.items():
            for record in records:
                mark = self._marks.setdefault(place, Watermark(record.offset))
                mark.begin(record.offset)
                task = asyncio.create_task(self._tell(record, mark, writer), name="notice")
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Of what is still ours: a partition that came back begins where the group stood."""
        owned = consumer.assignment()
        self._marks = {place: mark for place, mark in self._marks.items() if place in owned}
        offsets = {place: mark.position for place, mark in self._marks.items()}
        if offsets:
            await consumer.commit(offsets)

    async def _tell(self, record: Record, mark: Watermark, writer: Writer) -> None:
        try:
            notice: NotificationRequested = decode(topics.NOTIFICATION_REQUESTED, record.value)
        except DecodeError as error:
            log.error("notice_unreadable", partition=record.partition, offset=record.offset, error=str(error))
            mark.finish(record.offset)
            return
        outcome = await self._outcome(notice)
        NOTICES.labels(notice.kind, outcome.status).inc()
        headers = cloud_event_headers(outcome, SOURCE)
        parcel = Parcel(topics.NOTIFICATION_DELIVERED, notice.execution_id, encode(outcome), headers)
        try:
            await deliver(writer, [parcel], self._settings.send_timeout_seconds)
        except AWAY as error:
            log.warning("notice_outcome_not_told", notice=notice.event_id, error=repr(error))
            return  # not finished: told again by whoever reads on from the last position
        mark.finish(record.offset)

    async def _outcome(self, notice: NotificationRequested) -> NotificationDelivered:
        reason, told_before = "", set[str]()
        for attempt, pause in enumerate((0.0, *PAUSES), 1):
            await asyncio.sleep(pause)
            try:
                async with self._permits:
                    told = await (self._call(notice) if notice.callback else self._mail(notice, told_before))
                return _delivered(
                    notice, "delivered" if told else "skipped", attempt, "" if told else "no address is known"
                )
            except AgentFailure as failure:
                reason = failure.info.message
                if not failure.info.retryable:
                    return _delivered(notice, "failed", attempt, reason)
            except Exception as error:  # whatever one notice has in it, the others' position must move on
                log.exception("notice_failed", notice=notice.event_id)
                return _delivered(notice, "failed", attempt, repr(error))
        return _delivered(notice, "failed", len(PAUSES) + 1, reason)

    async def _call(self, notice: NotificationRequested) -> bool:
        body = orjson.dumps(notice.body)
        secret = callback_secret(self._settings.webhook_key, notice.organization_id, notice.project_id)
        headers = {"content-type": "application/json", "idempotency-key": notice.event_id}
        if self._settings.webhook_key:  # without one anybody could make the secret
            headers["x-handrail-signature"] = stamped(secret, body, int(time.time()))
        await self._calls.send(Call(method="POST", url=notice.callback), body, headers)
        return True

    async def _mail(self, notice: NotificationRequested, told: set[str]) -> bool:
        """Whether anybody could be told; `told` are who has been. People whose address nobody knows are passed over."""
        people = self._addresses(notice)
        for person, address in people:
            if person in told:
                continue
            try:
                await send(self._message(notice, person, address), self._settings)
            except Unanswered as error:
                log.warning("notice_unanswered", notice=notice.event_id, error=str(error))
            told.add(person)
        return bool(people)

    def _addresses(self, notice: NotificationRequested) -> list[tuple[str, str]]:
        """Of whom it is for, or of their substitutes while they are away; each with their id."""
        found = []
        for person in notice.to:
            reviewer = self._reviewer(notice, person)
            away = next((a for a in reviewer.absences if a.start.timestamp() <= time.time() < a.end.timestamp()), None)
            if away is not None and away.substitute:
                reviewer = self._reviewer(notice, away.substitute)
            address = reviewer.email or reviewer.reviewer_id
            if ONE_ADDRESS.fullmatch(address):
                found.append((reviewer.reviewer_id, address))
        return found

    def _reviewer(self, notice: NotificationRequested, person: str) -> Reviewer:
        whose = (notice.organization_id, notice.project_id, person)
        return self._reviewers.get(whose) or Reviewer(reviewer_id=person[:ADDRESS_LENGTH])

    def _message(self, notice: NotificationRequested, person: str, address: str) -> EmailMessage:
        """Its Message-ID follows from the notice: servers that know it drop a second one."""
        message = EmailMessage()
        title = " ".join((notice.title or "an approval").split())[:150]
        domain = parseaddr(self._settings.mail_from)[1].rpartition("@")[2]
        message["From"], message["To"] = self._settings.mail_from, address
        message["Subject"] = SUBJECTS[notice.kind].format(title=title)
        message["Message-ID"] = f"<{derive(notice.event_id, address)}@{domain}>"
        message["Date"] = formatdate(notice.occurred_at.timestamp())
        message.set_content(self._text(notice, person))
        return message

    def _text(self, notice: NotificationRequested, person: str) -> str:
        lines = [notice.text or notice.title or "An approval waits for you."]
        if notice.deadline is not None:
            lines.append(f"Deadline: {notice.deadline:%Y-%m-%d %H:%M %Z}")
        if notice.decidable and self._settings.webhook_key:
            lines.append(
                f"Look at it and decide (this link works once, and is for you alone):\n{self._link(notice, person)}"
            )
        lines.append(f"Approval {notice.approval_id} of workflow {notice.workflow_id}")
        return "\n\n".join(lines)

    def _link(self, notice: NotificationRequested, person: str) -> str:
        latest = notice.occurred_at.timestamp() + self._settings.link_seconds
        expires = latest if notice.deadline is None else min(latest, notice.deadline.timestamp())
        whose = (notice.organization_id, notice.project_id)
        link = DecisionLink(notice.approval_id, *whose, person, notice.event_id, int(expires))
        return f"{self._settings.public_url.rstrip('/')}/decide/{link_token(self._settings.webhook_key, link)}"


def _delivered(notice: NotificationRequested, status: str, attempts: int, reason: str) -> NotificationDelivered:
    kept = (
        "execution_id",
        "workflow_id",
        "user_id",
        "organization_id",
        "project_id",
        "approval_id",
        "kind",
        "to",
        "callback",
    )
    return NotificationDelivered.model_validate(
        {
            **notice.model_dump(include=set(kept)),
            "event_id": derive(notice.event_id, "outcome"),
            "occurred_at": notice.occurred_at,
            "notification_id": notice.event_id,
            "status": status,
            "attempts": attempts,
            "reason": reason[:1000],
        }
    )
