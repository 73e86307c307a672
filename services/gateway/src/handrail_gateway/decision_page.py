"""The page behind a decision link: plain HTML, no script, nothing from elsewhere. Whatever it shows is text."""

from collections.abc import Mapping
from html import escape
from typing import Any

import orjson
from starlette.responses import HTMLResponse

from handrail_gateway.answers import parsed

SHOWN_CHARACTERS = 20_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 42rem; margin: 3rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.4rem; white-space: pre-wrap }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; padding: 1rem; border: 1px solid #8886; border-radius: .5rem;
       max-height: 24rem; overflow: auto }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem }} dt {{ opacity: .7 }} dd {{ margin: 0 }}
textarea {{ width: 100%; min-height: 4rem; box-sizing: border-box; font: inherit }}
button {{ font: inherit; padding: .6rem 1.4rem; border-radius: .5rem; border: 0; color: #fff; margin: 1rem .5rem 0 0 }}
.yes {{ background: #1a7f37 }} .no {{ background: #b3261e }}
</style>
</head>
<body><main>{body}</main></body>
</html>"""


def page(title: str, body: str, status: int = 200) -> HTMLResponse:
    """`body` is HTML already; `title` is text."""
    return HTMLResponse(_PAGE.format(title=escape(title), body=body), status, _HEADERS)


def told(title: str, text: str, status: int) -> HTMLResponse:
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>", status)


def asked(gate: Mapping[str, Any], show: Any, person: str) -> HTMLResponse:
    """The question with two buttons. Nothing is decided by looking at it."""
    facts = {
        "For": person,
        "Workflow": gate["workflow_id"],
        "Step": gate["step_id"],
        "Deadline": gate["deadline"] or "none",
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    attached = (parsed(gate["rules"]) or {}).get("attachments", ())
    rows += "".join(f"<dt>Attached</dt><dd>{_attached(each)}</dd>" for each in attached)
    title = gate["message"] or "An approval waits for you"
    form = (
        '<form method="post"><label>Comment<br><textarea name="comment" maxlength="10000"></textarea></label>'
        f'<input type="hidden" name="digest" value="{escape(gate["digest"])}">'
        '<br><button class="yes" name="decision" value="approved">Approve</button>'
        '<button class="no" name="decision" value="rejected">Reject</button></form>'
    )
    return page("Your decision", f"<h1>{escape(title)}</h1><dl>{rows}</dl>{_shown(show)}{form}")


def _attached(attachment: Mapping[str, Any]) -> str:
    """A link only where it leads to the web: whoever wrote the workflow wrote it."""
    name, url = escape(attachment["name"]), escape(attachment["url"])
    leads = attachment["url"].startswith(("https://", "http://"))
    return f'<a href="{url}" rel="noreferrer">{name}</a>' if leads else f"{name}: {url}"


def _shown(show: Any) -> str:
    if show is None:
        return ""
    text = show if isinstance(show, str) else orjson.dumps(show, option=orjson.OPT_INDENT_2).decode()
    cut = "" if len(text) <= SHOWN_CHARACTERS else "\n... (cut off here: look at the approval for the rest)"
    return f"<pre>{escape(text[:SHOWN_CHARACTERS] + cut)}</pre>"
