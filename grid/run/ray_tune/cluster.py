"""A Ray cluster that is there already: joined after seconds or refused, its nodes looked at."""

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

# Set in a job of `cnngrid launch ray`: the Ray that it was given to, and must run on.
SESSION = "CNNGRID_RAY_SESSION"
# Set by Ray in every job: a driver in it must not say anew what its workers run in.
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# What opens a connection of HTTP/2, and empty settings: a Ray head answers with its own.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
ANSWER_S = 5.0
# A node's first worker may have to import much from a slow disk.
LOOK_S = 90.0
# A node that is gone is listed for as long as its cluster has not noticed that.
GONE_WITHIN_S = 15.0
# A shared file system may show a new file to others a little later.
SEEN_WITHIN_S = 10.0


def join(address: str, settings: dict[str, Any]) -> None:
    """`ray.init` for a cluster's head at HOST:PORT; raises `GridError` where it lets nobody in."""
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
    """Meanwhile nothing reaches standard error: a Ray that is refused says so once a second."""
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
    """What an error of `ray.init` means; a Ray of some kind answers at the address."""
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
            said = connection.recv(9)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GridError(f"--address {address}: no Ray cluster answers there ({reason})") from None
    if said[3:4] != b"\x04":  # settings
        raise GridError(
            f"--address {address}: something else than a Ray head answers there; the port of the "
            "dashboard (8265) is for `cnngrid launch ray`"
        )


def check_nodes(store: Store) -> None:
    """Let every node look whether it sees the results; `GridError` names those that do not. A node
    that goes meanwhile is none of them.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = secrets.token_hex(8)
    probe = store.run / f"seen-{token}.json"
    store.write_file(probe, json.dumps({"token": token}).encode())
    ask = ray.remote(num_cpus=0, max_retries=0)(look)
    try:
        asked = [
            (
                node,
                ask.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(store.location, probe.name, token),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
        found = [(node, *_answer(answer)) for node, answer in asked]
    finally:
        store.remove(probe)
    problems = [(node, problem) for node, problem, _ in found if problem]
    until = time.monotonic() + GONE_WITHIN_S
    certain = any(known for _, _, known in found)
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
    """What a node found wrong, and whether that is certain: the node may be gone, too."""
    import ray

    try:
        problem: str | None = ray.get(answer, timeout=LOOK_S)
    except ray.exceptions.GetTimeoutError:
        return f"did not answer within {LOOK_S:g} s", False
    except ray.exceptions.RayError as error:
        raised_there = isinstance(error, ray.exceptions.RayTaskError)
        return f"cannot run cnngrid: {str(error).strip().splitlines()[-1]}", raised_there
    return problem, problem is not None


def look(place: str, name: str, token: str) -> str | None:
    """On a node: why the results cannot be used there, None where they can."""
    until = time.monotonic() + SEEN_WITHIN_S
    try:
        store = open_store(place)
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
