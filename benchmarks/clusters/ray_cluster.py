"""A Ray cluster of several nodes on this machine; nodes can be killed and started again."""

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
    """One `ray start --block` and its descendants."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_up(self) -> None:
        """Wait until Ray runs on the node."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while b"Ray runtime started" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Ray did not start:\n{self.log.read_text()}")
            time.sleep(0.1)

    def kill_raylet(self) -> None:
        """Kill only the node's Ray daemon; the other processes of the node notice."""
        for pid in descendants(self.process.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/exe").resolve().name == "raylet":
                    os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill all processes of the node, as a power cut would."""
        for pid in (*descendants(self.process.pid), self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Cluster:
    """Worker nodes and a head without CPUs for trials, protected by a token of their own."""

    scratch: Path
    size: int
    cpus: int
    port: int
    head: Node | None = None
    workers: list[Node] = field(default_factory=list)
    _started: int = 0

    @property
    def address(self) -> str:
        """Address for `cnngrid run --address`."""
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the nodes and drivers."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.scratch / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }

    def start(self) -> None:
        """Start the head and all workers, for the first time or after `stop`."""
        self.head = self._start(
            "--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false"
        )
        self.head.wait_until_up()
        for node in [self.start_worker() for _ in range(self.size)]:
            node.wait_until_up()

    def start_worker(self) -> Node:
        """Start a worker node, which joins seconds later."""
        node = self._start(f"--address={self.address}", f"--num-cpus={self.cpus}")
        self.workers.append(node)
        return node

    def stop(self) -> None:
        """Kill all nodes."""
        for node in (*self.workers, *([self.head] if self.head else [])):
            node.kill()
        self.workers.clear()

    def _start(self, *options: str) -> Node:
        self._started += 1
        log = self.scratch / f"{self._started}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--num-gpus=0",
                 "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0",
                 "--dashboard-agent-listen-port=0", f"--temp-dir={self.scratch}/{self._started}",
                 *options],
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return Node(process, log)


@contextlib.contextmanager
def cluster(workers: int, cpus: int) -> Iterator[Cluster]:
    """Run a cluster of `workers` nodes with `cpus` CPUs each; kill it at the end."""
    scratch = Path(tempfile.mkdtemp(prefix="r"))  # short, because Ray's sockets are below it
    token = scratch / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = Cluster(scratch, workers, cpus, port)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(child) for child in text.split()]
    return [*children, *(pid for child in children for pid in descendants(child))]
