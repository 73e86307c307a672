"""Fixtures that more than one suite uses."""

from collections.abc import Iterator

import pytest
from chaos.figures import FIGURES
from support.infrastructure import running_broker, running_database


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        for what, figure in FIGURES:
            terminalreporter.write_line(f"{what:58} {figure}")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of the run's broker, with all topics. Tests keep apart by execution ids."""
    with running_broker(tmp_path_factory.mktemp("broker")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the run's database."""
    with running_database(tmp_path_factory.mktemp("database")) as url:
        yield url
