from handrail_runtime.service import run_service

from handrail_gateway.app import GatewayService
from handrail_gateway.channels.wire import WEBSOCKETS


def main() -> None:
    service = GatewayService()
    run_service("gateway", 8000, service.run, app=service.app, websockets=WEBSOCKETS)


if __name__ == "__main__":
    main()
