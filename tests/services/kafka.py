"""Apache Kafka, one KRaft node as a plain Java process: the reference for behaviour and the peer for speed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.services.locate import NotInstalledError, cache_dir, find_directory, find_program
from tests.services.process import Child, Service, StartError, free_ports, port_open

VERSION = "4.3.0"
CLUSTER_ID = "V2Vpci1UZXN0cy1LYWZrYQ"
_ARTIFACTS = ("kafka_2.13", "kafka-tools")
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>weir.tests</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>
{dependencies}
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""
_LOGGING = """Configuration:
  Appenders: {Console: {name: C, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: C}}}
"""
_SERVER = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=16777216
"""


def install() -> Path:
    """Fetch Kafka's jars (server, tools and `kafka-clients`) with Maven into the cache; the directory of jars."""
    maven = find_program("mvn", install="apt-get install maven")
    home = cache_dir() / "kafka"
    home.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(
        f"<dependency><groupId>org.apache.kafka</groupId><artifactId>{a}</artifactId><version>{VERSION}</version></dependency>"
        for a in _ARTIFACTS
    )
    (home / "pom.xml").write_text(_POM.format(dependencies=lines))
    libs = home / "libs"
    subprocess.run(
        [maven, "-q", "-f", home / "pom.xml", "dependency:copy-dependencies", f"-DoutputDirectory={libs}"],
        check=True,
    )
    return libs


def java() -> Path:
    """The `java` program (17 or later)."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return Path(home) / "bin" / "java"
    return find_program("java", install="apt-get install openjdk-17-jre-headless")


def jars() -> Path:
    """The directory with Kafka's jars; NotInstalledError says how to get them."""
    return find_directory(
        "Apache Kafka's jars",
        variable="WEIR_KAFKA_LIBS",
        cached="kafka/libs",
        probe=f"kafka-clients-{VERSION}.jar",
        install="python -m tests.services install kafka",
    )


class KafkaProcess(Service):
    """One Apache Kafka node with its data in `directory`; `bootstrap` is its address."""

    def __init__(self, directory: Path, *, port: int = 0, settings: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.libs = jars()
        self.java = java()
        self.port, controller = (port, port + 1) if port else free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        text = _SERVER.format(port=self.port, controller=controller, data=directory / "data")
        text += "".join(f"{name}={value}\n" for name, value in (settings or {}).items())
        self.properties = directory / "server.properties"
        self.properties.write_text(text)
        (directory / "log4j2.yaml").write_text(_LOGGING)
        heap = ["-Xms512M", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        self.child = Child(
            [
                str(self.java),
                *heap,
                *self._logging(),
                "-cp",
                f"{self.libs}/*",
                "kafka.Kafka",
                str(self.properties),
            ],
            directory / "kafka.log",
        )

    @property
    def pid(self) -> int:
        return self.child.pid

    def _logging(self) -> list[str]:
        return [f"-Dlog4j2.configurationFile={self.directory / 'log4j2.yaml'}", "-Djava.awt.headless=true"]

    def start(self) -> None:
        if not (self.directory / "data").exists():
            done = subprocess.run(
                [
                    self.java,
                    *self._logging(),
                    "-cp",
                    f"{self.libs}/*",
                    "kafka.tools.StorageTool",
                    "format",
                    "-t",
                    CLUSTER_ID,
                    "-c",
                    self.properties,
                ],
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                raise StartError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
        self.child.start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = 90) -> None:
        """Wait until the listener accepts connections."""
        self.child.wait_until(lambda: port_open(self.port), timeout_s=timeout_s, what="Kafka's listener")

    def stop(self) -> None:
        self.child.stop()

    def kill9(self) -> None:
        """SIGKILL: Kafka's unsynced data survives, since the page cache does."""
        self.child.kill9()

    def pause(self) -> None:
        self.child.pause()

    def resume(self) -> None:
        self.child.resume()


__all__ = ["VERSION", "KafkaProcess", "NotInstalledError", "install", "jars", "java"]
