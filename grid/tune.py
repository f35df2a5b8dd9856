"""Ray Tune: reused actors run the trials, its searcher and scheduler ask the driver."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper as TuneStopper

from grid.errors import GridError, StoreError
from grid.ray_cluster import check_nodes, join

if TYPE_CHECKING:
    from grid.driver import Driver
    from grid.job import Job, Progress

# A trial whose process dies this often is given up.
MAX_ATTEMPTS = 3


class TrialActor(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Runs one trial after another in one process; a step is an epoch or the trial's end."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        self._begin(config["job"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self.cleanup()
        self._begin(new_config["job"])
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch, or evaluate at the end."""
        try:
            progress = next(self._steps)
        except StoreError as problem:
            return {"problem": str(problem), "done": True}
        return {"progress": progress, "done": progress.done}

    def cleanup(self) -> None:
        """The trial has ended or was stopped."""
        self._steps.close()
        self._store.close()

    def _begin(self, job: Job) -> None:
        from grid.results import open_store
        from grid.trial import run_trial

        self._store = open_store(job.results)
        self._steps = run_trial(job, self._store)


class DriverHandle:
    """Refers to the driver from objects that Tune copies and pickles; a pickle refers to none,
    because Ray's own files are never read again.
    """

    def __init__(self, driver: Driver | None) -> None:
        self._driver = driver

    def __call__(self) -> Driver:
        """The driver."""
        assert self._driver is not None
        return self._driver

    def __deepcopy__(self, memo: dict[int, Any]) -> DriverHandle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return DriverHandle, (None,)


class DriverSearcher(Searcher):  # type: ignore[misc]
    """Asks the driver what comes next."""

    def __init__(self, driver: DriverHandle) -> None:
        super().__init__(metric=None, mode=None)
        self._driver = driver

    def suggest(self, trial_id: str) -> Any:
        """A config that is nothing but the job, or the end."""
        try:
            job = self._driver().next()
        except GridError as problem:
            self._driver().fail(problem)
            return Searcher.FINISHED
        if job is None:
            # None: there is nothing now, ask again when something has happened.
            return Searcher.FINISHED if self._driver().over else None
        return {"job": job}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The driver knows already."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the results folder is the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing likewise."""


class DriverScheduler(FIFOScheduler):  # type: ignore[misc]
    """Asks the driver whether a trial goes on."""

    def __init__(self, driver: DriverHandle) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """After an epoch; Tune does not ask after a trial's end."""
        stop = False
        try:
            stop = self._driver().progress(result["progress"])
        except GridError as problem:
            self._driver().fail(problem)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class DriverCallback(tune.Callback):  # type: ignore[misc]
    """Tells the driver of trials that ended or were lost; must not raise, or the sweep ends."""

    def __init__(self, driver: DriverHandle) -> None:
        self._driver = driver

    def on_trial_result(self, **event: Any) -> None:
        """Any result; only ends matter here."""
        result = event["result"]
        if "problem" in result:
            self._driver().fail(StoreError(result["problem"]))
            return
        progress: Progress = result["progress"]
        if progress.done:
            with self._guard():
                self._driver().finished(progress)

    def on_trial_recover(self, **event: Any) -> None:
        """A process died and the trial is started again."""
        with self._guard():
            self._driver().lost(_trial_id(event["trial"]))

    def on_trial_error(self, **event: Any) -> None:
        """A process died once too often."""
        with self._guard():
            if not self._driver().stopping:
                self._driver().given_up(
                    _trial_id(event["trial"]),
                    f"its process died {MAX_ATTEMPTS} times (out of memory, or killed)",
                )

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except GridError as problem:
            self._driver().fail(problem)


class DriverStopper(TuneStopper):  # type: ignore[misc]
    """Ends the experiment when the driver wants to stop."""

    def __init__(self, driver: DriverHandle) -> None:
        self._driver = driver

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Stop everything that runs."""
        return self._driver().stopping


def run_tune(driver: Driver, scratch: Path) -> None:
    """Run everything the driver hands out on Ray: a local one, or that of `--address`.

    Ray must be imported, so this module too, after `ray_environment` set things up in `scratch`.
    """
    from grid.slots import gpus_per_trial

    resources = driver.plan.spec.resources
    handle = DriverHandle(driver)
    with (
        _ray(scratch, driver.options.address, driver.display.slots * resources.cpus),
        _tunes_files(driver, scratch) as storage,
    ):
        if driver.options.address:
            check_nodes(driver.store)
            _fit_to_cluster(driver)
        gpus = gpus_per_trial(resources, driver.device)
        tuner = tune.Tuner(
            tune.with_resources(TrialActor, {"cpu": resources.cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=DriverSearcher(handle),
                scheduler=DriverScheduler(handle),
                num_samples=-1,
                max_concurrent_trials=driver.display.slots,
                reuse_actors=True,
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(storage),
                callbacks=[DriverCallback(handle)],
                stop=DriverStopper(handle),
                # Trials keep their own checkpoints in the results folder.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=MAX_ATTEMPTS - 1),
                verbose=0,
            ),
        )
        tuner.fit()


@contextlib.contextmanager
def _tunes_files(driver: Driver, scratch: Path) -> Iterator[Path]:
    """A folder for what Tune writes and nobody reads."""
    if not driver.options.address:
        yield scratch
        return
    folder = (driver.store.run / "ray").resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trial_id(trial: Any) -> str:
    return str(trial.config["job"].trial.trial_id)


def _fit_to_cluster(driver: Driver) -> None:
    """Take device and slots from what the cluster has; `GridError` where that is too little."""
    from grid.slots import gpus_per_trial

    resources, wanted = driver.plan.spec.resources, driver.options.slots
    have = ray.cluster_resources()
    driver.device = "cuda" if resources.gpus != 0 and have.get("GPU") else "cpu"
    gpus = gpus_per_trial(resources, driver.device)
    most = int(have.get("CPU", 0) // resources.cpus)
    if gpus:
        most = min(most, int(have["GPU"] / gpus))
    if most < 1:
        raise GridError(
            f"the cluster has no room for one trial ({resources.cpus} CPU cores, {gpus:g} GPUs)"
        )
    if wanted and wanted > most:
        raise GridError(f"--slots {wanted}: the cluster takes {most} trials at a time")
    driver.display.slots = wanted or most


@contextlib.contextmanager
def _ray(scratch: Path, address: str | None, cpus: int) -> Iterator[None]:
    """A Ray of our own with a token of its own, or the one at `address`; quiet either way."""
    for name in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Ray puts the driver's folder first on the workers' path, where a user's own analysis.py
    # would win over ours: give it an empty one.
    empty = scratch / "empty"
    empty.mkdir()
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"working_dir": str(empty)},
    }
    if address:
        join(address, quiet)
    else:
        ray.init(num_cpus=cpus, include_dashboard=False, _temp_dir=str(scratch / "ray"), **quiet)
    try:
        yield
    finally:
        ray.shutdown()
