"""A sweep as a job of a Ray cluster, which runs it by `cnngrid run --address`."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.results.location import as_folder, inside, is_address
from cluster.errors import ClusterError
from cluster.ray_jobs import STARTER, RayJob, check_versions, find_cluster, submit
from grid.errors import GridError
from grid.launch.bundle import PACKAGES, SWEEP, own_modules, pack
from grid.plan.plan import Plan
from grid.run.ray_tune.cluster import SESSION
from grid.store.folder import now
from grid.trial.provenance import COMMIT, git_commit


def ray_job(plan: Plan, results: str, data: Path | None, changes: Sequence[str]) -> RayJob:
    """The job that runs a plan's sweep on a Ray cluster; raises `GridError` for places that have
    another meaning there than here.
    """
    if not is_address(results) and not as_folder(results).is_absolute():
        raise GridError(
            f"--results {results}: the sweep runs on the cluster, so give an absolute folder that "
            "all of its nodes see, or an address such as s3://bucket/prefix"
        )
    if data is not None and not data.is_absolute():
        raise GridError(
            f"--data {data}: the sweep runs on the cluster, so give an absolute folder that all "
            "of its nodes see"
        )
    command = ["-m", "grid.cli.app", "run", SWEEP, "--results", results]
    if data is not None:
        command += ["--data", str(data)]
    for change in changes:
        command += ["--set", change]
    if plan.skip_unreadable:
        command.append("--skip-unreadable")
    return RayJob(
        name=f"{plan.folder}-{now():%Y%m%dT%H%M%S}-{os.urandom(2).hex()}",
        title=f"The sweep {plan.folder}, {plan.planned} trials.",
        command=tuple(command),
        environment={},
    )


def ray_job_text(plan: Plan, job: RayJob, address: str) -> str:
    """What would be submitted."""
    own = [path.name for path in own_modules(plan.spec, Path.cwd())]
    return "\n".join(
        [
            f"# {job.title}",
            f"# To the Ray at {address}, with these files: {', '.join((SWEEP, STARTER))}, "
            f"{', '.join([*PACKAGES, *own])}.",
            f'{job.entrypoint}    # --address "$RAY_ADDRESS" is added there',
        ]
    )


def launch_ray(plan: Plan, results: str, job: RayJob, address: str) -> str:
    """Submit a job to the Ray cluster at an address; returns what to tell the user."""
    try:
        cluster = find_cluster(address)
        check_versions(cluster)
        with tempfile.TemporaryDirectory(prefix="cnngrid-") as folder:
            pack(plan.spec, Path.cwd(), Path(folder))
            # The job makes sure that it joins this very cluster.
            told = {SESSION: cluster.session, COMMIT: git_commit(Path.cwd()) or ""}
            job = replace(job, environment={**job.environment, **told})
            job_id = submit(cluster, job, Path(folder))
    except ClusterError as problem:
        raise GridError(str(problem)) from None
    place = shlex.quote(str(inside(results, plan.folder)))
    there = f"--address {shlex.quote(address)} {shlex.quote(job_id)}"
    return "\n".join(
        [
            f"job {job_id}: {job.title}",
            f"  cnngrid status {place}",
            f"  ray job status {there}",
            f"  ray job logs --follow {there}",
            f"  cnngrid stop {place}    # what finished is kept; launch again to go on",
        ]
    )
