"""Creates the topics of the catalogue on a broker, and checks the ones that are there.

`python -m handrail.topics` does it for the broker of `HANDRAIL_BROKERS`.
"""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from handrail_contracts.topics import TopicSpec, catalogue
from handrail_runtime.settings import Settings


class TopicMismatch(Exception):
    """A topic on the broker is not what the catalogue says."""


def _configuration(spec: TopicSpec, replicas: int) -> dict[str, str]:
    settings = {
        "cleanup.policy": spec.cleanup_policy,
        "max.message.bytes": str(spec.max_message_bytes),
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": str(2 if replicas >= 3 else 1),
        **spec.config,
    }
    if spec.cleanup_policy == "delete":
        settings["retention.ms"] = str(spec.retention_ms)
    return settings


async def create_topics(bootstrap: str) -> list[str]:
    """Creates what is missing and returns its names; safe to call again. Raises `TopicMismatch` for a wrong one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        brokers = (await admin.describe_cluster())["brokers"]
        replicas = min(3, len(brokers))
        existing = set(await admin.list_topics())
        missing = [spec for name, spec in catalogue().items() if name not in existing]
        if missing:
            await _create(admin, missing, replicas)
        await _check(admin, [name for name in catalogue() if name in existing])
        return [spec.name for spec in missing]
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, specs: list[TopicSpec], replicas: int) -> None:
    topics = [
        NewTopic(spec.name, spec.partitions, replicas, topic_configs=_configuration(spec, replicas)) for spec in specs
    ]
    answer = await admin.create_topics(topics)
    for name, code, *rest in answer.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise TopicMismatch(
                f"the broker did not create topic {name}: {rest[0] if rest else for_code(code).__name__}"
            )


async def _check(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    for described in await admin.describe_topics(names) if names else []:
        spec, found = catalogue()[described["topic"]], len(described["partitions"])
        if found != spec.partitions:
            raise TopicMismatch(
                f"topic {spec.name} has {found} partitions and needs {spec.partitions}. Executions are spread over partitions "
                "for ever: use a broker (or names) without this topic, or recreate it if it is empty."
            )


if __name__ == "__main__":
    made = asyncio.run(create_topics(Settings().brokers))
    print(f"{len(made)} topics created, {len(catalogue()) - len(made)} were there")
