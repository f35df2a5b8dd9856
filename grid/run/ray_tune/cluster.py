"""A running Ray cluster: joined or refused within seconds, its nodes checked."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from cluster.ray_jobs import NO_TOKEN, version_problem
from grid.errors import GridError
from grid.store.folder import Store
from grid.store.open import open_store

# Set in a job of `cnngrid launch ray`: the Ray session that the job was submitted to.
SESSION = "CNNGRID_RAY_SESSION"
# Set by Ray in every job: a driver inside a job must not set its workers' environment again.
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# The opening of an HTTP/2 connection with empty settings: a Ray head answers with its own.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
ANSWER_S = 5.0
# Time for a node's check, in seconds: its first worker may import much from a slow disk.
LOOK_S = 90.0
# Time for the cluster to notice that a node is gone: until then it lists the node.
GONE_WITHIN_S = 15.0
# Time for a shared file system to show a new file on other nodes.
SEEN_WITHIN_S = 10.0


def join(address: str, settings: dict[str, Any]) -> None:
    """Call `ray.init` for a cluster's head at HOST:PORT; raise `GridError` if it refuses."""
    import ray

    _check_answers(address)
    if JOB_CONFIG in os.environ:
        settings = {key: value for key, value in settings.items() if key != "runtime_env"}
    try:
        with _silence():
            ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise GridError(f"--address {address}: {refusal(error)}") from None
    wanted, found = os.environ.get(SESSION), ray.get_runtime_context().get_session_name()
    if wanted and wanted != found:
        ray.shutdown()
        raise GridError(
            f"--address {address}: is another Ray ({found}) than the job was given to ({wanted})"
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard standard error while the block runs: a refused Ray repeats itself every second."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def refusal(error: Exception) -> str:
    """Explain an error of `ray.init`, given that some Ray answers at the address."""
    text = str(error).strip()
    versions = re.findall(r"Ray: (\S+)\s+Python: (\S+)", text)
    if len(versions) == 2 and (problem := version_problem(*versions[0], *versions[1])):
        return problem
    if isinstance(error, ConnectionError):
        return f"a Ray cluster answers there, but lets nobody in without its token; {NO_TOKEN}"
    return f"cannot join that Ray cluster: {(text or type(error).__name__).splitlines()[0]}"


def _check_answers(address: str) -> None:
    """Raise `GridError` unless a Ray head listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise GridError(
            f"--address {address}: give the head's own HOST:PORT, as `ray start` printed it (6379 "
            "if nothing else was said)"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as connection:
            connection.settimeout(ANSWER_S)
            connection.sendall(GREETING)
            frame = connection.recv(9)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GridError(f"--address {address}: no Ray cluster answers there ({reason})") from None
    if frame[3:4] != b"\x04":  # a frame of settings
        raise GridError(
            f"--address {address}: something else than a Ray head answers there; the port of the "
            "dashboard (8265) is for `cnngrid launch ray`"
        )


def check_nodes(store: Store) -> None:
    """Check on every node that it sees the results; raise `GridError` naming those that do not.

    A node that goes meanwhile is ignored.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = secrets.token_hex(8)
    probe = store.run / f"seen-{token}.json"
    store.files.write(probe, json.dumps({"token": token}).encode())
    ask = ray.remote(num_cpus=0, max_retries=0)(look)
    try:
        checks = [
            (
                node,
                ask.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(store.location, probe.name, token),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
        results = [(node, *_answer(answer)) for node, answer in checks]
    finally:
        store.files.remove(probe)
    problems = [(node, problem) for node, problem, _ in results if problem]
    until = time.monotonic() + GONE_WITHIN_S
    certain = any(known for _, _, known in results)
    while problems and not certain and time.monotonic() < until:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        problems = [one for one in problems if one[0]["NodeID"] in alive]
        time.sleep(0.5)
    if problems:
        raise GridError(
            "\n".join(
                f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}): {problem}"
                for node, problem in problems
            )
        )


def _answer(answer: Any) -> tuple[str | None, bool]:
    """Return a node's problem, and whether it is certain: the node may also be gone."""
    import ray

    try:
        problem: str | None = ray.get(answer, timeout=LOOK_S)
    except ray.exceptions.GetTimeoutError:
        return f"did not answer within {LOOK_S:g} s", False
    except ray.exceptions.RayError as error:
        raised_there = isinstance(error, ray.exceptions.RayTaskError)
        return f"cannot run cnngrid: {str(error).strip().splitlines()[-1]}", raised_there
    return problem, problem is not None


def look(location: str, name: str, token: str) -> str | None:
    """Return, on a node, the reason why the results cannot be used there, None if they can."""
    until = time.monotonic() + SEEN_WITHIN_S
    try:
        store = open_store(location)
        while store.read_run(name).get("token") != token:
            if time.monotonic() > until:
                return (
                    f"does not see {store.display_name}; give --results a folder that all nodes "
                    "see, or an object store"
                )
            time.sleep(0.5)
        store.close()
    except GridError as problem:
        return str(problem)
    return None
