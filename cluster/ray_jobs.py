"""Ray Jobs: a command and its files submitted to a Ray cluster through its dashboard."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import logging
import os
import platform
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import ClusterError

# A running dashboard answers much sooner; Ray's own client has no timeout.
TIMEOUT_S = 10.0
# The dashboard of a head that has just started answers before it accepts jobs.
AGENT_TIMEOUT_S = 30.0
# Script uploaded with every job; it finds the cluster's Python.
STARTER = "ray_job.sh"
NO_TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file that holds the cluster's"


@dataclass(frozen=True)
class RayJob:
    """A command for the cluster's Python; the `--address HOST:PORT` of that Ray is appended.

    It starts in a copy of the uploaded folder. Everyone who may list the cluster's jobs can read
    `environment`, so it must not hold secrets.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: dict[str, str]

    @property
    def entrypoint(self) -> str:
        """The job's command line."""
        return f"sh {STARTER} {shlex.join(self.command)}"


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that answered: its address, session, and versions of Ray and Python."""

    address: str
    session: str
    ray: str
    python: str


def find_cluster(address: str) -> RayCluster:
    """Return the cluster whose dashboard is at an address; fail within seconds if there is none.

    Raises `ClusterError` if there is no answer, another program answers, or the token is rejected.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(
            f"--address {address}: a job goes through the dashboard, such as http://HOST:8265"
        )
    version = _get_json(address, "/api/version")
    if "ray_version" not in version:
        raise ClusterError(f"--address {address}: is not the dashboard of a Ray cluster")
    details = _get_json(address, "/api/v0/cluster_metadata").get("data") or {}
    return RayCluster(
        address,
        str(version.get("session_name", "")),
        str(version["ray_version"]),
        str(details.get("pythonVersion") or platform.python_version()),
    )


def version_problem(ray: str, python: str, own_ray: str, own_python: str) -> str | None:
    """Return the reason why a cluster cannot run this environment's commands; None if it can.

    Ray's version must be equal, Python's up to its last number.
    """
    if ray == own_ray and python.split(".")[:2] == own_python.split(".")[:2]:
        return None
    return (
        f"the cluster runs Ray {ray} on Python {python}, this command Ray {own_ray} on Python "
        f"{own_python}: install the cluster's versions here, or these there"
    )


def check_versions(cluster: RayCluster) -> None:
    """Raise `ClusterError` if the cluster's Ray or Python does not match."""
    own = (metadata.version("ray"), platform.python_version())
    if problem := version_problem(cluster.ray, cluster.python, *own):
        raise ClusterError(f"--address {cluster.address}: {problem}")


def submit(cluster: RayCluster, job: RayJob, folder: Path) -> str:
    """Upload a folder, start the job in it and return the job's id. Raises `ClusterError`."""
    if importlib.util.find_spec("aiohttp") is None:
        raise ClusterError("a Ray job needs Ray's optional parts: pip install 'ray[default]'")
    with _only_this_address():
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray").setLevel(logging.ERROR)
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.ERROR)
        deadline = time.monotonic() + AGENT_TIMEOUT_S
        while True:
            try:
                client = JobSubmissionClient(cluster.address)
                return str(
                    client.submit_job(
                        entrypoint=job.entrypoint,
                        submission_id=job.name,
                        runtime_env={"working_dir": str(folder), "env_vars": job.environment},
                        metadata={"title": job.title},
                    )
                )
            except (RayError, RuntimeError, ValueError, OSError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                if "No available agent" not in reason or time.monotonic() > deadline:
                    raise ClusterError(f"--address {cluster.address}: {reason}") from None
            time.sleep(1.0)


@contextlib.contextmanager
def _only_this_address() -> Iterator[None]:
    """Hide the variables that would send Ray's client to another cluster."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _get_json(address: str, path: str) -> dict[str, Any]:
    """Return the JSON object at a path of the dashboard; empty if there is none."""
    parts = urlsplit(address)
    assert parts.hostname
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=TIMEOUT_S)
    token = _token()
    try:
        connection.request(
            "GET",
            parts.path.rstrip("/") + path,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        response = connection.getresponse()
        status, content = response.status, response.read()
    except TimeoutError:
        raise ClusterError(
            f"--address {address}: no answer within {TIMEOUT_S:g} s: is this the dashboard of a "
            "Ray cluster, and may this machine reach it?"
        ) from None
    except http.client.HTTPException:
        return {}  # the answer is not HTTP
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(f"--address {address}: nobody answers there ({reason})") from None
    finally:
        connection.close()
    if status in (401, 403):
        problem = "does not take this token" if token else "wants a token"
        raise ClusterError(f"--address {address}: the cluster {problem}; {NO_TOKEN}")
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and status == 200 else {}


def _token() -> str | None:
    """Return the user's token from the places that Ray itself reads; None without one."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        raise ClusterError(f"{path}: no token can be read there ({error.strerror})") from None
