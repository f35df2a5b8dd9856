"""A sweep as a job of a Ray cluster, which runs it by `cnngrid run --address`."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.results.location import as_folder, inside, is_address
from cluster.errors import ClusterError
from cluster.ray_jobs import STARTER, RayJob, check_versions, find_cluster, submit
from grid.errors import GridError
from grid.launch.bundle import PACKAGES, pack, user_files
from grid.launch.command import SWEEP_FILE, launch_id, run_arguments
from grid.plan.plan import Plan
from grid.run.ray_tune.cluster import SESSION
from grid.trial.provenance import COMMIT, git_commit


def ray_job(
    plan: Plan,
    results: str,
    data_dir: Path | None,
    changes: Sequence[str],
    *,
    same_code: bool = False,
) -> RayJob:
    """Return the job that runs a plan's sweep on a Ray cluster.

    Raises `GridError` for relative folders, which would be others on the cluster.
    """
    if not is_address(results) and not as_folder(results).is_absolute():
        raise GridError(
            f"--results {results}: the sweep runs on the cluster, so give an absolute folder that "
            "all of its nodes see, or an address such as s3://bucket/prefix"
        )
    if data_dir is not None and not data_dir.is_absolute():
        raise GridError(
            f"--data {data_dir}: the sweep runs on the cluster, so give an absolute folder that "
            "all of its nodes see"
        )
    arguments = run_arguments(plan, SWEEP_FILE, results, data_dir, changes, same_code=same_code)
    return RayJob(
        name=f"{plan.folder}-{launch_id()}",
        title=f"The sweep {plan.folder}, {plan.planned} trials.",
        command=("-m", "grid.cli", *arguments),
        environment={},
    )


def ray_job_text(plan: Plan, job: RayJob, address: str) -> str:
    """Return a description of a job for `--dry-run`."""
    modules = user_files(plan.sources)
    return "\n".join(
        [
            f"# {job.title}",
            f"# To the Ray at {address}, with these files: {', '.join((SWEEP_FILE, STARTER))}, "
            f"{', '.join([*PACKAGES, *modules])}.",
            f'{job.entrypoint}    # --address "$RAY_ADDRESS" is added there',
        ]
    )


def launch_ray(plan: Plan, results: str, job: RayJob, address: str) -> str:
    """Submit a job to the Ray cluster at an address; return the message for the user."""
    try:
        cluster = find_cluster(address)
        check_versions(cluster)
        with tempfile.TemporaryDirectory(prefix="cnngrid-") as folder:
            pack(plan, Path(folder))
            # With the session, the job makes sure that it joins this very cluster.
            variables = {SESSION: cluster.session, COMMIT: git_commit(Path.cwd()) or ""}
            job = replace(job, environment={**job.environment, **variables})
            job_id = submit(cluster, job, Path(folder))
    except ClusterError as problem:
        raise GridError(str(problem)) from None
    results_folder = shlex.quote(str(inside(results, plan.folder)))
    job_arguments = f"--address {shlex.quote(address)} {shlex.quote(job_id)}"
    return "\n".join(
        [
            f"job {job_id}: {job.title}",
            f"  cnngrid status {results_folder}",
            f"  ray job status {job_arguments}",
            f"  ray job logs --follow {job_arguments}",
            f"  cnngrid stop {results_folder}    # what finished is kept; launch again to go on",
        ]
    )
