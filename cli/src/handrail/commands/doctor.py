"""`handrail doctor`."""

import asyncio
import os

import typer

from handrail import checks
from handrail.commands.up import DataDir
from handrail.local import BROKER_PORT, DATABASE_PORT
from handrail.stack import PORTS, data_folder, read_running


def doctor(data_dir: DataDir = None) -> None:
    """Look at this machine, the broker and the database, and say what is wrong and what to do.

    Ends with status 1 if anything is wrong. What runs on the data folder is looked at; else what `handrail up` would need.

    Example: HANDRAIL_BROKERS=kafka-1:9092 handrail doctor
    """
    findings = asyncio.run(_findings(data_dir))
    for finding in findings:
        typer.echo(f"{finding.level:6} {finding.text}")
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(1)


async def _findings(data_dir: DataDir) -> list[checks.Finding]:
    folder = data_folder(data_dir)
    running = read_running(folder)
    brokers = running.brokers if running else os.environ.get("HANDRAIL_BROKERS")
    database = running.database_url if running else os.environ.get("HANDRAIL_DATABASE_URL")
    findings = list(checks.machine(folder))
    if running is None:
        findings += checks.ports(_ports_wanted(brokers, database))
    if brokers:
        findings += await checks.broker(brokers)
    if database:
        findings.append(await checks.database(database))
    return findings


def _ports_wanted(brokers: str | None, database: str | None) -> dict[str, int]:
    wanted = {f"the {name}": port for name, port in PORTS.items()}
    if not brokers:
        wanted["the broker"] = BROKER_PORT
    if not database:
        wanted["the database"] = DATABASE_PORT
    return wanted
