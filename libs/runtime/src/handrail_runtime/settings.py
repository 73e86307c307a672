"""Settings of a service, from `HANDRAIL_*` environment variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What every service can be told. Defaults fit one machine; see docs/architecture.md for the table."""

    model_config = SettingsConfigDict(env_prefix="HANDRAIL_", extra="ignore", frozen=True)

    brokers: str = "127.0.0.1:9092"
    database_url: str = "postgresql://handrail@127.0.0.1:5432/handrail"
    host: str = "127.0.0.1"
    port: int = 0
    instance_id: str = ""
    log_level: str = "INFO"

    session_timeout_ms: int = 6_000
    heartbeat_interval_ms: int = 1_500
    send_timeout_seconds: float = 30.0
    drain_seconds: float = 10.0
    snapshot_every_records: int = 5_000

    agents_file: Path | None = None
    runner_concurrency: int = Field(256, ge=1)
    result_limit_bytes: int = 256 * 1024
    runner_status_seconds: float = Field(5.0, gt=0)
    breaker_failures: int = Field(5, ge=0)
    breaker_pause_seconds: float = Field(10.0, gt=0)
    breaker_max_pause_seconds: float = Field(300.0, gt=0)
    offline_model_url: str = "http://127.0.0.1:8005/v1"
    secrets: dict[str, str] = {}
    smtp_url: str = "smtp://127.0.0.1:8025"
    smtp_password_env: str = "SMTP_PASSWORD"
    mail_from: str = "Handrail <support@handrail.example>"
    allow_private_networks: bool = True  # the embedded default runs its agents on this machine; production says false

    generator_model: str = "offline"
    generator_timeout_seconds: float = Field(120.0, gt=0)

    webhook_key: str = ""
    public_url: str = "http://127.0.0.1:8000"
    link_seconds: int = Field(3 * 86_400, ge=60)
    mcp_hosts: str = ""
    ws_origins: str = ""
    ws_connections: int = Field(10_000, ge=1)
    max_pending: int = Field(100_000, ge=1)
    busy_alone: int = Field(512, ge=1)
    tenant_concurrency: int = Field(0, ge=0)
    auth_jwks_file: Path | None = None
    auth_jwks_url: str = ""
    auth_issuer: str = "handrail-dev"
    auth_audience: str = "handrail"
    auth_roles_claim: str = "roles"
    auth_default_role: str = "viewer"
    key_pepper: str = ""
    rate_limit_caller: str = "1000/second"
    rate_limit_tenant: str = ""
