"""A Ray cluster of several nodes on this machine, whose nodes can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
STARTS_WITHIN_S = 90.0


@dataclass
class Node:
    """One `ray start --block` and the processes below it."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_up(self) -> None:
        """Return once its Ray runs."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while b"Ray runtime started" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray did not start:\n{self.log.read_text()}")
            time.sleep(0.1)

    def kill_raylet(self) -> None:
        """Kill Ray's own daemon of the node alone; the processes below it notice that."""
        for pid in children(self.process.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/exe").resolve().name == "raylet":
                    os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill everything below it, as a power cut would."""
        for pid in (*children(self.process.pid), self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Cluster:
    """A head without CPUs for trials and worker nodes, behind a token of their own."""

    scratch: Path
    size: int
    cpus: int
    port: int
    head: Node | None = None
    workers: list[Node] = field(default_factory=list)
    _started: int = 0

    @property
    def address(self) -> str:
        """What `cnngrid run --address` wants."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What its nodes and drivers have in common."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.scratch / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }

    def start(self) -> None:
        """Start the head and all workers, again where they were stopped."""
        self.head = self._start(
            "--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false"
        )
        self.head.wait_until_up()
        for node in [self.start_worker() for _ in range(self.size)]:
            node.wait_until_up()

    def start_worker(self) -> Node:
        """Start a worker node; it takes seconds to join."""
        node = self._start(f"--address={self.address}", f"--num-cpus={self.cpus}")
        self.workers.append(node)
        return node

    def stop(self) -> None:
        """Kill everything that was started here."""
        for node in (*self.workers, *([self.head] if self.head else [])):
            node.kill()
        self.workers.clear()

    def _start(self, *options: str) -> Node:
        self._started += 1
        log = self.scratch / f"{self._started}.log"
        with open(log, "wb") as said:
            process = subprocess.Popen(
                [RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--num-gpus=0",
                 "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0",
                 "--dashboard-agent-listen-port=0", f"--temp-dir={self.scratch}/{self._started}",
                 *options],
                env={**os.environ, **self.environment},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return Node(process, log)


@contextlib.contextmanager
def cluster(workers: int, cpus: int) -> Iterator[Cluster]:
    """A running cluster of so many worker nodes with so many CPUs each; killed at the end."""
    scratch = Path(tempfile.mkdtemp(prefix="r"))  # Ray's sockets want a short path
    token = scratch / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Cluster(scratch, workers, cpus, port)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def children(pid: int) -> list[int]:
    """All processes below one."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    found = [int(child) for child in text.split()]
    return [*found, *(below for child in found for below in children(child))]
