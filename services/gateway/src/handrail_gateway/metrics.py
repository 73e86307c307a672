"""What the gateway counts."""

from prometheus_client import Counter, Gauge

REQUESTS = Counter("handrail_http_requests_total", "Requests answered", ["method", "status"])
PUBLISHED = Counter("handrail_gateway_published_total", "Records sent, by outcome", ["topic", "outcome"])
STREAMS = Gauge("handrail_gateway_streams", "Open event streams")
STREAMS_ENDED = Counter("handrail_gateway_streams_ended_total", "Event streams that ended, by reason", ["reason"])
CHANNEL_CLIENTS = Gauge("handrail_gateway_channel_clients", "Open WebSockets")
CHANNEL_MESSAGES = Counter("handrail_gateway_channel_messages_total", "Messages written to WebSockets")
CHANNEL_ENDED = Counter("handrail_gateway_channel_ended_total", "WebSockets that ended, by reason", ["reason"])
