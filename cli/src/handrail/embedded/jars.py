"""Kafka's jars, resolved by jgo exactly as locked, checked by hash, kept in the user's cache."""

import hashlib
import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jgo.maven import MavenContext

from handrail.embedded import EmbeddedError

LOCK = Path(__file__).with_name("kafka.lock.toml")


def cache_folder() -> Path:
    """`HANDRAIL_CACHE_DIR`, or the usual place for caches."""
    chosen = os.environ.get("HANDRAIL_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "handrail"


def kafka_jars() -> list[Path]:
    """Paths of all jars; downloads what is missing."""
    locked = tomllib.loads(LOCK.read_text())["dependencies"]
    folder = cache_folder() / "maven"
    folder.mkdir(parents=True, exist_ok=True)
    context = MavenContext(repo_cache=folder)
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda entry: _jar(context, entry), locked))


def _jar(context: MavenContext, entry: dict[str, str]) -> Path:
    name = f"{entry['groupId']}:{entry['artifactId']}:{entry['version']}"
    try:
        component = context.project(entry["groupId"], entry["artifactId"]).at_version(entry["version"])
        path = Path(component.artifact().resolve())
    except Exception as error:
        raise EmbeddedError(
            f"{name} could not be downloaded ({error}). Kafka's jars are needed once: connect to the network, or set "
            "HANDRAIL_BROKERS to a broker that runs already."
        ) from error
    if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
        path.unlink()
        raise EmbeddedError(f"{name} is not what the lock file names. It was removed from {path.parent}; try again.")
    return path
