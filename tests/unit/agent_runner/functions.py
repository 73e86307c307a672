"""What python agents of the tests do."""

import asyncio
import sys
import threading
from typing import Any

from handrail_agent_runner.agents.python import inline
from handrail_agent_runner.builtin import echo

__all__ = ["echo"]

release = threading.Event()
hanging: list[str] = []


@inline
def broken(input: Any, context: Any) -> Any:
    raise LookupError("no such customer")


@inline
def leaves(input: Any, context: Any) -> Any:
    sys.exit("enough")


@inline
def not_json(input: Any, context: Any) -> Any:
    return {"when": object()}


@inline
def large(input: Any, context: Any) -> Any:
    return "x" * 20_000


async def waits(input: Any, context: Any) -> Any:
    await asyncio.sleep(input.get("seconds", 0))
    return {"waited": True}


async def cancels(input: Any, context: Any) -> Any:
    raise asyncio.CancelledError


async def own_timeout(input: Any, context: Any) -> Any:
    raise TimeoutError("the database is slow")


async def leaves_later(input: Any, context: Any) -> Any:
    sys.exit("enough")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


async def mute(input: Any, context: Any) -> Any:
    raise Mute


async def surrogate(input: Any, context: Any) -> Any:
    raise ValueError("file \udcff")


def in_thread(input: Any, context: Any) -> Any:
    return {"thread": threading.current_thread().name, "input": input}


def leaves_in_thread(input: Any, context: Any) -> Any:
    sys.exit("enough")


def hangs(input: Any, context: Any) -> Any:
    hanging.append(threading.current_thread().name)
    release.wait(30)
