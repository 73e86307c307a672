"""Secrets by name: a tenant's registration gets what the operator keeps for its host, and nothing else."""

import pytest
from handrail_runtime.secrets import SecretRefused, secret
from handrail_runtime.settings import Settings

SETTINGS = Settings(secrets={"CRM_TOKEN": "crm.example.com"})


def test_it_is_told_to_the_host_that_it_is_kept_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TOKEN", "s3cret")
    assert secret("CRM_TOKEN", "https://crm.example.com:8443/mcp", SETTINGS, trusted=False) == "s3cret"


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("CRM_TOKEN", "https://evil.example/"),
        ("CRM_TOKEN", "https://crm.example.com@evil.example/"),
        ("CRM_TOKEN", "https://crm.example.com.evil.example/"),
        ("OTHER", "https://crm.example.com/"),
        ("CRM_TOKEN", ""),
    ],
)
def test_to_another_host_nothing_is_told(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    monkeypatch.setenv(variable, "s3cret")
    with pytest.raises(SecretRefused, match="HANDRAIL_SECRETS") as caught:
        secret(variable, url, SETTINGS, trusted=False)
    assert "s3cret" not in str(caught.value)


def test_the_operators_own_may_name_any_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "s3cret")
    assert secret("OTHER", "https://anywhere.example/", SETTINGS, trusted=True) == "s3cret"
    with pytest.raises(SecretRefused, match="there is no environment variable MISSING"):
        secret("MISSING", "https://anywhere.example/", SETTINGS, trusted=True)
