"""What every service process is: settings, health, metrics, a main task, and an orderly end."""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
import uvicorn
import uvloop
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from handrail_runtime.settings import Settings
from handrail_runtime.telemetry import configure_logging, settle_memory
from handrail_runtime.tolerant import tolerate_foreign_headers

log = structlog.get_logger()

STALLED_AFTER = 60.0
NO_WEBSOCKETS: Mapping[str, Any] = {"ws": "none"}


@dataclass
class Health:
    """Alive means progress, not existence: `beat` is called by the main loop, and a loop that stopped is not alive."""

    ready: bool = False
    detail: str = "starting"
    last_beat: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        self.last_beat = time.monotonic()

    def set_ready(self, detail: str = "ready") -> None:
        self.ready, self.detail = True, detail
        self.beat()

    def set_not_ready(self, detail: str) -> None:
        self.ready, self.detail = False, detail
        self.beat()

    @property
    def alive(self) -> bool:
        return time.monotonic() - self.last_beat < STALLED_AFTER


def health_routes(health: Health) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok" if health.alive else "stalled"}, 200 if health.alive else 503)

    async def readyz(_: Request) -> Response:
        return JSONResponse({"ready": health.ready, "detail": health.detail}, 200 if health.ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def allow_many_files() -> None:
    """A socket is a file: as many as the system lets this process have, and not the 1,024 that shells begin with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class QuietServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the service decides when it ends."""

    def install_signal_handlers(self) -> None: ...


async def serve_http(
    app: ASGIApp, settings: Settings, port: int, websockets: Mapping[str, Any] = NO_WEBSOCKETS
) -> QuietServer:
    """Starts listening and returns at once; the server's task ends when `should_exit` is set.

    `websockets` is what uvicorn has to know about them, if the application takes any.
    """
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off"}
    server = QuietServer(uvicorn.Config(app, host=settings.host, port=port, **quiet, **websockets))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    task = asyncio.create_task(server.serve(), name="http")
    while not server.started:
        if task.done():
            task.result()
            raise SystemExit(f"nothing can listen on {settings.host}:{port}; is the port in use?")
        await asyncio.sleep(0.01)
    return server


Main = Callable[[Settings, Health, asyncio.Event], Awaitable[None]]
"""The body of a service: runs until the event (stop) is set, then drains and returns."""


AppFactory = Callable[[Settings, Health], ASGIApp]
"""Makes the application of a service that has its own; it must serve `health_routes` too."""


def _health_app(_: Settings, health: Health) -> ASGIApp:
    return Starlette(routes=health_routes(health))


def run_service(
    name: str,
    default_port: int,
    main: Main,
    *,
    app: AppFactory = _health_app,
    websockets: Mapping[str, Any] = NO_WEBSOCKETS,
) -> None:
    """Runs a service until SIGTERM or SIGINT; exits with 1 if its main task fails (the supervisor starts it again)."""
    settings = Settings()
    configure_logging(name, settings.log_level)
    allow_many_files()
    tolerate_foreign_headers()
    try:
        uvloop.run(_run(name, default_port, main, settings, app, websockets))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


async def _run(
    name: str, default_port: int, main: Main, settings: Settings, app: AppFactory, websockets: Mapping[str, Any]
) -> None:
    stop, health = asyncio.Event(), Health()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await serve_http(app(settings, health), settings, settings.port or default_port, websockets)
    settle_memory()
    log.info("service_started", service=name, pid=os.getpid())
    try:
        await main(settings, health, stop)
    except Exception:
        log.exception("service_failed", service=name)
        raise SystemExit(1) from None
    finally:
        health.set_not_ready("stopping")
        server.should_exit = True
    log.info("service_stopped", service=name)
