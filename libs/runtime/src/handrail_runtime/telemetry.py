"""Logs as a stable name plus ids, metrics in Prometheus' format."""

import gc
import logging
import sys

import orjson
import structlog
from prometheus_client import Counter, Gauge, Histogram

WORKFLOW_STARTS = Counter(
    "workflow_starts_total", "Executions that schedules, events and other workflows started", ["trigger"]
)
WORKFLOW_EXECUTIONS = Counter("workflow_executions_total", "Executions that ended, by status", ["status"])
WORKFLOW_DURATION = Histogram(
    "workflow_duration_seconds",
    "From the start of an execution to its end",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400),
)
STEP_DURATION = Histogram(
    "workflow_step_duration_seconds",
    "How long an attempt of a step took, in the runner",
    ["status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
WORKFLOW_ACTIVE = Gauge("workflow_active_count", "Executions that have started and not ended", ["partition"])
JOURNAL_POSITION = Gauge(
    "handrail_journal_position", "Next journal offset of an owned partition", ["service", "partition"]
)
CONSUMER_LAG = Gauge("handrail_consumer_lag", "Records behind the end of the topic", ["service", "topic"])
PROJECTOR_POSITION = Gauge("handrail_projector_position", "Next offset to project", ["topic", "partition"])
DEAD_LETTERS = Counter("handrail_dead_letters_total", "Records set aside", ["service", "topic", "code"])
CLAIMS = Counter("handrail_claims_total", "Journal claims, by outcome", ["service", "outcome"])
RECOVERY_SECONDS = Histogram(
    "handrail_recovery_seconds", "From assignment of partitions to the first input", ["service"]
)


def configure_logging(service: str, level: str = "INFO") -> None:
    """One JSON object a line on standard error, with the service's name."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL if level != "DEBUG" else logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda value, **_: orjson.dumps(value, default=str).decode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper(), logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def settle_memory() -> None:
    """Call once everything is imported: start-up objects leave the collector's sight, and full collections get rare.

    A full collection over a large heap stops the loop for tens of milliseconds, which is most of a tail.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
