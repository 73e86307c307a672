"""The WebSocket itself: uvicorn's over `websockets`, and what ASGI has no word for.

One flush goes to hundreds of clients as the same bytes: they are framed once and written as they are. And a client that does
not read is really hung up on: uvicorn alone would wait for ever until it had taken the last byte.
"""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

EXTENSION = "handrail.wire"
HANG_UP_SECONDS = 5.0


def _nothing() -> None: ...


class Wire(WebSocketsSansIOProtocol):
    roomy: Callable[[], None] = staticmethod(_nothing)
    """Called when there is room again after `full`."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            extensions: Any = self.scope["extensions"]
            extensions[EXTENSION] = self

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # or uvicorn takes a refusal for a mistake of ours, and logs it as one

    @property
    def full(self) -> bool:
        return not self.writable.is_set()

    def write(self, frames: bytes) -> None:
        """Whole frames, as a server sends them. Nothing happens once it is closed."""
        if not self.close_sent and not self.transport.is_closing():
            self.transport.write(frames)

    def leave(self, code: int, reason: str) -> None:
        """Says goodbye behind what was written; a few seconds later it hangs up, read or not."""
        if not self.close_sent and not self.transport.is_closing():
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
            self.close_timer = self.loop.call_later(HANG_UP_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.roomy()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(HANG_UP_SECONDS, self.transport.abort)


WEBSOCKETS: dict[str, Any] = {
    "ws": Wire,
    "ws_max_size": 16 * 1024,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": False,
}
"""For uvicorn. Compression would cost 64 KiB a client."""
