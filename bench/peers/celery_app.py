"""The Celery application that the peers' worker loads."""

import os

from celery import Celery

app = Celery("peers", broker=os.environ["PEERS_REDIS"], backend=os.environ["PEERS_REDIS"])
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@app.task
def step(value: int) -> int:
    return value


@app.task
def last(values: list[int]) -> int:
    return len(values)
