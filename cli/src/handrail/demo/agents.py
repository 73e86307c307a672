"""The demo's agents: real HTTP, in their own process, no model and no network behind them.

`python -m handrail.demo.agents --port 9000` answers POST /api/v1/execute.
"""

import argparse
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Input = dict[str, Any]


def _article(given: Input) -> Any:
    topic = given["topic"]
    return {
        "title": f"{topic}: what changes, and what doesn't",
        "body": f"{topic} is past the stage of pilots. Three clinics told us what they kept, what they dropped, and why.",
        "format": given.get("format", "blog_post"),
    }


def _keywords(given: Input) -> Any:
    content, keywords = given["content"], given["target_keywords"]
    return {**content, "keywords": keywords, "meta_description": f"{content['title']} ({', '.join(keywords)})"}


def _posts(given: Input) -> Any:
    title = given["content"]["title"]
    return {
        "posts": [{"platform": platform, "text": f"{title} - read it on our blog"} for platform in given["platforms"]]
    }


def _triage(given: Input) -> Any:
    message = given["message"].lower()
    urgent = any(word in message for word in ("refund", "broken", "charged twice"))
    return {"category": "billing" if "charge" in message or "refund" in message else "general", "urgent": urgent}


def _reply(given: Input) -> Any:
    return {
        "to": given["customer"],
        "subject": "Re: your message",
        "body": f"Thank you for writing. Your {given['category']} case is with us, and the amount will be returned in 3 days.",
    }


def _send(given: Input) -> Any:
    return {"response": given["draft"]["body"], "sent_to": given["draft"]["to"], "delivery": "simulated"}


AGENTS: dict[str, Callable[[Input], Any]] = {
    "marketing_content_agent_1_101": _article,
    "marketing_seo_agent_1_102": _keywords,
    "marketing_social_media_agent_1_103": _posts,
    "support_triage_agent": _triage,
    "support_reply_agent": _reply,
    "support_send_agent": _send,
}
THINKING_SECONDS = 0.4


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        agent = AGENTS.get(request["agent"])
        if agent is None:
            self._answer(404, {"detail": f"no agent {request['agent']!r} here"})
            return
        time.sleep(THINKING_SECONDS)
        try:
            self._answer(200, {"output": agent(request["input"])})
        except (KeyError, TypeError) as error:
            self._answer(422, {"detail": f"the input lacks {error}"})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet: the platform's timeline tells what was called."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
