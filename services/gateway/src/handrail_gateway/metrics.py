"""What the gateway counts."""

from prometheus_client import Counter, Gauge

REQUESTS = Counter("handrail_http_requests_total", "Requests answered", ["method", "status"])
PUBLISHED = Counter("handrail_gateway_published_total", "Records sent, by outcome", ["topic", "outcome"])
STREAMS = Gauge("handrail_gateway_streams", "Open event streams")
STREAMS_ENDED = Counter("handrail_gateway_streams_ended_total", "Event streams that ended, by reason", ["reason"])
AUTH_FAILURES = Counter("handrail_auth_failures_total", "Requests that were not let in, by reason", ["reason"])
FORBIDDEN = Counter("handrail_forbidden_total", "Requests of callers without the permission", ["permission"])
RATE_LIMITED = Counter("handrail_rate_limited_total", "Requests beyond a rate limit, by whose", ["whose"])
CHANNEL_CLIENTS = Gauge("handrail_gateway_channel_clients", "Open WebSockets")
CHANNEL_MESSAGES = Counter("handrail_gateway_channel_messages_total", "Messages written to WebSockets")
CHANNEL_ENDED = Counter("handrail_gateway_channel_ended_total", "WebSockets that ended, by reason", ["reason"])
