"""Puts approvals together."""

import asyncio

from handrail_runtime.machine.shell import Shell
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings

from handrail_approvals.core import ApprovalsCore

PORT = 8003


async def main(settings: Settings, health: Health, stop: asyncio.Event) -> None:
    await Shell(ApprovalsCore(), settings, health).run(stop)
