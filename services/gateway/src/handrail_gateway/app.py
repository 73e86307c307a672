"""The composition root: settings in, an application and its life out."""

import asyncio

import structlog
from fastapi import APIRouter, FastAPI
from handrail_runtime.service import Health, health_routes
from handrail_runtime.settings import Settings
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handrail_gateway import documentation, problems
from handrail_gateway.channels.backlog import Backlog
from handrail_gateway.channels.door import Channels
from handrail_gateway.channels.hub import Hub
from handrail_gateway.channels.reading import Reading
from handrail_gateway.gate import BodyGuard, Gate
from handrail_gateway.gateway import Gateway, Guarded
from handrail_gateway.identity import rights
from handrail_gateway.identity.authenticator import Authenticator
from handrail_gateway.mcp import door
from handrail_gateway.mcp.door import Door
from handrail_gateway.metrics import REQUESTS
from handrail_gateway.problems import Problem
from handrail_gateway.routers import (
    a2a,
    agents,
    approvals,
    audit,
    budgets,
    builder,
    compat,
    desk,
    executions,
    generation,
    keys,
    links,
    mcps,
    operations,
    reviewers,
    schedules,
    steering,
    suggestions,
    tasks,
    templates,
    triggers,
    versions,
    workflows,
)

log = structlog.get_logger()

VERSION = "0.1.0"
MODULES = (
    templates, generation, builder, triggers, workflows, versions, steering, executions, tasks, approvals, suggestions,
    reviewers, audit, agents, desk, mcps, schedules, budgets, keys, operations,
)  # fmt: skip
"""In the order in which paths are looked for: fixed ones before those that take an id."""
WEBSOCKETS = ("/ws", "/api/ws", "/api/v1/ws")
BEAT_SECONDS = 5.0


class InFlight:
    """Counts requests, so that a stop can wait for those that are under way."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    async def drained(self, seconds: float) -> None:
        await asyncio.wait_for(self._none.wait(), seconds)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    REQUESTS.labels(scope["method"], message["status"]).inc()
                await send(message)

            self.count += 1
            self._none.clear()
            try:
                await app(scope, receive, noted)
            finally:
                self.count -= 1
                if not self.count:
                    self._none.set()

        return counted


def create_app(
    gateway: Gateway, authenticator: Authenticator, health: Health, in_flight: InFlight, hub: Hub
) -> FastAPI:
    app = FastAPI(
        title="Handrail",
        version=VERSION,
        routes=[*health_routes(health)],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Spans and metrics are ours to make; by itself it would also log stack traces of refused requests.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        middleware=[Middleware(in_flight.wrap), Middleware(Gate, authenticator), Middleware(BodyGuard)],
    )
    app.state.gateway = gateway
    app.state.door = Door(app, VERSION, gateway.mcp_hosts)
    for prefix, documented in (("/api/v1", True), ("/api", False)):
        api = APIRouter(prefix=prefix, dependencies=[Guarded])
        for module in MODULES:
            api.include_router(module.router)
        app.include_router(api, include_in_schema=documented)
    app.include_router(compat.router, dependencies=[Guarded])
    app.include_router(a2a.router, dependencies=[Guarded])
    app.include_router(triggers.hooks)
    app.include_router(links.router)
    app.include_router(door.router, dependencies=[Guarded])
    app.state.channels = Channels(gateway, hub, authenticator)
    guarded = rights.GuardedApp("WS /ws", app.state.channels)
    app.router.routes += [WebSocketRoute(path, guarded) for path in WEBSOCKETS]
    problems.install(app)
    documentation.install(app)
    rights.check(app)
    return app


class GatewayService:
    """The gateway as `run_service` wants it: an application at once, and a main task."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self._authenticator: Authenticator | None = None
        self._door: Door | None = None
        self._channels: Channels | None = None
        self._in_flight = InFlight()

    def app(self, settings: Settings, health: Health) -> ASGIApp:
        gateway = self._gateway = Gateway.from_settings(settings)
        self._authenticator = Authenticator.from_settings(settings, gateway.keys)
        hub = Hub(gateway.tail, gateway.positions, Reading(gateway.database), Backlog(settings))
        app = create_app(gateway, self._authenticator, health, self._in_flight, hub)
        self._door, self._channels = app.state.door, app.state.channels
        return app

    async def run(self, settings: Settings, health: Health, stop: asyncio.Event) -> None:
        gateway, mcp, authenticator, channels = self._gateway, self._door, self._authenticator, self._channels
        assert gateway is not None and mcp is not None and authenticator is not None and channels is not None
        await gateway.open()
        beside = [
            asyncio.create_task(_beat(health), name="beat"),
            asyncio.create_task(authenticator.tokens.keys.run(), name="issuer-keys"),
            asyncio.create_task(gateway.follow.run(), name="api-keys"),
        ]
        connecting = asyncio.create_task(_become_ready(gateway, authenticator, health))
        try:
            await stop.wait()
            health.set_not_ready("stopping")
            connecting.cancel()
            await channels.close()
            await gateway.tail.close()
            try:
                await self._in_flight.drained(settings.drain_seconds)
            except TimeoutError:
                log.warning("requests_cut_off", count=self._in_flight.count)
        finally:
            for task in (*beside, connecting):
                task.cancel()
            await asyncio.gather(*beside, connecting, return_exceptions=True)
            await mcp.close()
            await gateway.close()


async def _beat(health: Health) -> None:
    while True:
        health.beat()
        await asyncio.sleep(BEAT_SECONDS)


async def _become_ready(gateway: Gateway, authenticator: Authenticator, health: Health) -> None:
    """Ready once broker, issuer and database have answered; an outage after that is told request by request."""
    health.set_not_ready("waiting for the broker")
    await gateway.publisher.connection.connected_once.wait()
    await gateway.ends.connection.connected_once.wait()
    health.set_not_ready("waiting for the API keys, and those of the issuer")
    await gateway.keys.ready.wait()
    await authenticator.tokens.keys.read.wait()
    health.set_not_ready("waiting for the read models")
    while True:
        try:
            await gateway.database.row("ping")
        except Problem:
            await asyncio.sleep(0.2)
        else:
            break
    health.set_ready()
