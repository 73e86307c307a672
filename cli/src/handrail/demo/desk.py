"""A service desk at work: what agents answer, what goes up the tiers, what a person answers, and a hundred at one time."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from handrail_client import CustomerServiceDesk

from handrail.bench.desk import inquiries
from handrail.demo.tour import PATIENCE, DemoFailed, Say

Json = dict[str, Any]
DESK, PERSON = "demo", "supervisor_1"
SIMPLE = "I need help with my account"
COMPLEX = "We need help with the architecture of our API integration: some orders never arrive"
WISH = "I want a refund of 129.90 EUR, and I want to talk to a person"
ANSWER = "I have refunded the 129.90 EUR; you will see them within two days. I am sorry."
AT_ONCE = 100


class DeskStory:
    """Needs a gateway, and tokens for people by their names."""

    def __init__(self, gateway: str, tokens: Callable[[str], str], say: Say) -> None:
        self._gateway, self._tokens, self._say = gateway, tokens, say

    def _desk(self, user: str, **options: Any) -> CustomerServiceDesk:
        return CustomerServiceDesk(name=DESK, url=self._gateway, token=lambda: self._tokens(user), **options)

    async def run(self) -> dict[str, Any]:
        """Gives the answers of each scenario."""
        async with self._desk("desk", tiers=["Frontline", "Specialist", "Expert"], agents_per_tier=[3, 2, 1]) as desk:
            desk.add_human_reviewer(PERSON, "Sarah Johnson", {"billing", "refunds"})
            return {
                "simple": await self._simple(desk),
                "complex": await self._complex(desk),
                "person": await self._person(desk),
                "many": await self._many(desk),
            }

    async def _simple(self, desk: CustomerServiceDesk) -> Json:
        self._title("A simple inquiry")
        return self._show(await desk.handle("cust_123", SIMPLE))

    async def _complex(self, desk: CustomerServiceDesk) -> Json:
        self._title("A complex one goes up the tiers")
        return self._show(await desk.handle("cust_456", COMPLEX))

    async def _person(self, desk: CustomerServiceDesk) -> Json:
        self._title("One for a person")
        asked = await desk.handle("cust_789", WISH, priority="high", topic="refunds", escalate=True, timeout=0)
        async with self._desk(PERSON) as sarah:
            escalation = await self._escalation(sarah, asked["id"])
            self._say(f"  {escalation['assignee']} is asked: {escalation['message']}")
            await sarah.answer(escalation["id"], ANSWER)
        return self._show(await desk.find(asked["id"], timeout=PATIENCE))

    @staticmethod
    async def _escalation(desk: CustomerServiceDesk, inquiry_id: str) -> Json:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            async for found in desk.escalations():
                if found["execution_id"] == inquiry_id and found["assignee"]:
                    return found
            await asyncio.sleep(0.05)
        raise DemoFailed(f"nobody was asked about inquiry {inquiry_id} within {PATIENCE:g} s")

    async def _many(self, desk: CustomerServiceDesk) -> list[Json]:
        self._title(f"{AT_ONCE} at one time")
        began = time.monotonic()
        texts = inquiries(AT_ONCE, share_complex=0.1)
        found = await asyncio.gather(*(desk.handle(f"cust_{number}", text) for number, text in enumerate(texts)))
        self._say(f"  {AT_ONCE} answers after {time.monotonic() - began:.1f} s, by")
        for agent, count in sorted(Counter(each["agent"] for each in found).items()):
            self._say(f"  {agent:30} {count}")
        return found

    def _show(self, found: Json) -> Json:
        if found["status"] != "answered":
            raise DemoFailed(f"inquiry {found['id']} is {found['status']} after a minute")
        self._say(f"  {found['inquiry']}")
        self._say(f"    {found['response']}")
        by = found["reviewer"] or f"{found['agent']} ({found['tier']}, confidence {found['confidence']:.0%})"
        passed = f", after {', '.join(found['escalations'])}" if found["escalations"] else ""
        self._say(f"    by {by}{passed}")
        return found

    def _title(self, text: str) -> None:
        self._say(f"\n{text}\n{'-' * len(text)}")
