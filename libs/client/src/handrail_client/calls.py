"""Every operation of the API that this client uses. `tests/unit/client` walks them against the API's own document."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from handrail_client import models

T = TypeVar("T", bound=models.Answer)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """`answer` is what a list has many of, where `listed`."""

    method: str
    path: str
    answer: type[T]
    listed: bool = False


_EXECUTION = "/executions/{execution_id}"
_APPROVAL = "/approvals/{approval_id}"
_SUGGESTION = "/suggestions/{suggestion_id}"

START = Call("POST", "/workflows/{workflow_id}/execute", models.Accepted)
EXECUTIONS = Call("GET", "/executions", models.ExecutionSummary, listed=True)
EXECUTION = Call("GET", _EXECUTION, models.Execution)
HISTORY = Call("GET", f"{_EXECUTION}/events", models.HistoryEvent, listed=True)
WHY = Call("GET", f"{_EXECUTION}/why", models.Why)
CANCEL = Call("POST", f"{_EXECUTION}/cancel", models.Accepted)
TERMINATE = Call("POST", f"{_EXECUTION}/terminate", models.Accepted)
PAUSE = Call("POST", f"{_EXECUTION}/pause", models.Accepted)
RESUME = Call("POST", f"{_EXECUTION}/resume", models.Accepted)
SIGNAL = Call("POST", f"{_EXECUTION}/signals/{{signal}}", models.Accepted)
RETRY = Call("POST", f"{_EXECUTION}/retry", models.Accepted)
SKIP = Call("POST", f"{_EXECUTION}/skip", models.Accepted)
EDIT = Call("POST", f"{_EXECUTION}/edit", models.Accepted)
REWIND = Call("POST", f"{_EXECUTION}/rewind", models.Accepted)
FORK = Call("POST", f"{_EXECUTION}/fork", models.Accepted)
STREAM = "GET", f"{_EXECUTION}/stream"
"""The one whose answer is no JSON."""

APPROVALS = Call("GET", "/approvals", models.Approval, listed=True)
APPROVAL = Call("GET", _APPROVAL, models.Approval)
DECIDE = Call("POST", _APPROVAL, models.Approval)
COMMENT = Call("POST", f"{_APPROVAL}/comments", models.Comment)

SUGGESTIONS = Call("GET", "/suggestions", models.SuggestionSummary, listed=True)
SUGGESTION = Call("GET", _SUGGESTION, models.Suggestion)
APPROVE = Call("POST", f"{_SUGGESTION}/approve", models.Approval)
REJECT = Call("POST", f"{_SUGGESTION}/reject", models.Approval)
REMARK = Call("POST", f"{_SUGGESTION}/comments", models.Comment)

DEFINE = Call("POST", "/workflows", models.WorkflowSummary)
REDEFINE = Call("PUT", "/workflows/{workflow_id}", models.Workflow)
WORKFLOWS = Call("GET", "/workflows", models.WorkflowSummary, listed=True)
WORKFLOW = Call("GET", "/workflows/{workflow_id}", models.Workflow)

REGISTER = Call("PUT", "/agents/{name}", models.Agent)
AGENTS = Call("GET", "/agents", models.AgentSummary, listed=True)
AGENT = Call("GET", "/agents/{name}", models.Agent)

DESK = Call("GET", "/desk", models.DeskConfiguration)
CONFIGURE = Call("PUT", "/desk", models.DeskConfiguration)
DESK_STATS = Call("GET", "/desk/stats", models.DeskStats)
INQUIRE = Call("POST", "/desk/inquiries", models.Inquiry)
INQUIRIES = Call("GET", "/desk/inquiries", models.Inquiry, listed=True)
INQUIRY = Call("GET", "/desk/inquiries/{inquiry_id}", models.Inquiry)
CUSTOMER = Call("GET", "/desk/customers/{customer_id}/history", models.Inquiry, listed=True)
ESCALATIONS = Call("GET", "/desk/escalations", models.Escalation, listed=True)
ANSWER = Call("POST", "/desk/escalations/{approval_id}", models.Escalation)
REVIEWER = Call("PUT", "/desk/reviewers/{reviewer_id}", models.Reviewer)

MAKE_KEY = Call("POST", "/keys", models.IssuedKey)
ROTATE_KEY = Call("POST", "/keys/{key_id}/rotate", models.IssuedKey)
REVOKE_KEY = Call("DELETE", "/keys/{key_id}", models.Nothing)

PUBLISH = Call("POST", "/events", models.EventAccepted)
