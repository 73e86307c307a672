"""A model's words on their way to readers."""

import asyncio

from handrail_agent_runner.agents.base import Progress
from handrail_agent_runner.conversation import Conversation

DELTA_SECONDS = 0.02
"""Words are gathered this long before they are told: order is kept, and a busy model does not flood the topic."""


class Words:
    """Gathers words for a moment and tells them in order, each time with their place in what the turn says.

    What readers have heard already, from a runner or a model before, is not told again; where the words differ from it,
    they take its place: a reader's text is what he has up to `at`, and then `content`.
    """

    def __init__(self, progress: Progress, conversation: Conversation) -> None:
        self._progress, self._conversation = progress, conversation
        self._turn, self._at = len(conversation.turns), 0
        self._gathered: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self.length = 0

    def add(self, text: str) -> None:
        if not text:
            return
        self.length += len(text)
        self._gathered.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELTA_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            text, self._gathered = "".join(self._gathered), []
            heard = self._conversation.told(self._turn)[self._at : self._at + len(text)]
            same = _common(heard, text)
            self._at += same
            if same < len(text):
                self._tell(text[same:])

    def again(self) -> None:
        """What was said so far is void: another model begins from the start."""
        self._at = self.length = 0

    def end(self) -> None:
        """Nothing more is said: what readers have heard beyond it is no longer so."""
        if len(self._conversation.told(self._turn)) > self._at:
            self._tell("")

    def _tell(self, text: str) -> None:
        said = self._conversation.told(self._turn)[: self._at] + text
        self._conversation.tell(self._turn, said)
        self._progress("delta", {"content": text, "turn": self._turn, "at": self._at})
        self._at = len(said)


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
