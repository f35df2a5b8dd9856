"""Ray Tune: reused actors run the trials, its searcher and scheduler ask the driver."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper as TuneStopper

from grid.cost.slots import gpus_per_trial
from grid.errors import GridError, StoreError, Superseded
from grid.phrases import counted
from grid.run.lost_trials import Cause
from grid.run.ray_tune.cluster import check_nodes, join
from grid.run.ray_tune.environment import tunes_folder
from grid.run.ray_tune.head import head_watched
from grid.run.ray_tune.watchdog import Watchdog

if TYPE_CHECKING:
    from grid.run.driver import Driver
    from grid.trial.assignment import Assignment, Progress


# More than any cluster takes.
MOST_SLOTS = 100_000
# What Ray says of an actor that could not be made.
CREATION = "because of an error raised in its creation task"
# How often the driver looks whether nodes have come or gone.
LOOK_EVERY_S = 2.0
# The shortest silence that means anything in an object store, in seconds.
REMOTE_HUNG_S = 120.0


class TrialActor(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Runs one trial after another in one process; a step is an epoch or the trial's end."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        self._begin(config["assignment"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self.cleanup()
        self._begin(new_config["assignment"])
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch, or evaluate at the end."""
        try:
            progress = next(self._steps)
        except StoreError as problem:
            return {"problem": str(problem), "done": True}
        except Superseded:
            return {"superseded": True, "done": True}
        return {"progress": progress, "done": progress.done}

    def cleanup(self) -> None:
        """The trial has ended or was stopped."""
        self._steps.close()
        self._store.close()

    def _begin(self, assignment: Assignment) -> None:
        from grid.store.open import open_store
        from grid.trial.trial import run_trial

        self._store = open_store(assignment.results)
        self._steps = run_trial(assignment, self._store)


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
        """A config that is nothing but the assignment, or the end."""
        try:
            assignment = self._driver().next()
        except GridError as problem:
            self._driver().fail(problem)
            return Searcher.FINISHED
        if assignment is None:
            # None: there is nothing now, ask again when something has happened.
            return Searcher.FINISHED if self._driver().over else None
        return {"assignment": assignment}

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
    """Tells the driver of trials that ended or were lost; must not raise, or the sweep ends.

    Kills trials that hang, which Tune then takes for lost.
    """

    def __init__(self, driver: DriverHandle, watchdog: Watchdog) -> None:
        self._driver = driver
        self._watchdog = watchdog
        self._actors: dict[str, Any] = {}
        self._killed: set[str] = set()

    def on_trial_start(self, **event: Any) -> None:
        """A process took the trial."""
        trial_id = _trial_id(event["trial"])
        self._actors[trial_id] = event["trial"].temporary_state.ray_actor
        self._watchdog.started(trial_id)

    def on_step_end(self, **event: Any) -> None:
        """Comes several times a second."""
        for trial_id in self._watchdog.hung():
            self._killed.add(trial_id)
            ray.kill(self._actors[trial_id])

    def on_trial_result(self, **event: Any) -> None:
        """Any result; only ends matter here."""
        result = event["result"]
        if "problem" in result:
            self._driver().fail(StoreError(result["problem"]))
            return
        if "superseded" in result:
            with self._guard():
                self._driver().lost(_trial_id(event["trial"]), Cause("node"))
            return
        progress: Progress = result["progress"]
        if progress.done:
            with self._guard():
                self._driver().finished(progress)

    def on_trial_complete(self, **event: Any) -> None:
        """The process is free: the trial ended or was stopped."""
        self._forget(_trial_id(event["trial"]))

    def on_trial_error(self, **event: Any) -> None:
        """A process died, or its node, or it could not be started."""
        trial_id, cause = _trial_id(event["trial"]), _cause(event["trial"])
        if trial_id in self._killed:
            limit_s = self._watchdog.limit_s
            reason = f"killed after {limit_s:g} s without a sign of life (hung_after_s)"
            cause = Cause("process", reason)
        self._forget(trial_id)
        with self._guard():
            self._driver().lost(trial_id, cause)

    def _forget(self, trial_id: str) -> None:
        self._watchdog.ended(trial_id)
        self._actors.pop(trial_id, None)
        self._killed.discard(trial_id)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except GridError as problem:
            self._driver().fail(problem)


def _error_text(trial: Any) -> str:
    """What Tune wrote of a trial's last failure."""
    try:
        return Path(trial.error_file).read_text().rpartition("Failure # ")[2]
    except (OSError, TypeError):
        return ""


def exit_words(error: str) -> str:
    """What Ray says of the end of a trial's process, in a line."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    told = [line for line in lines if re.match("The actor (is dead|died) because", line)]
    words = (told or lines or ["Ray does not say why"])[-1]
    words = words.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    likely = ""
    if "Worker exit type: SYSTEM_ERROR" in error:
        likely = " (killed, by the kernel where the machine's memory ran out, or crashed)"
    return f"its process died{likely}: {words[:300].rstrip('.')}"


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
    spec, resources = driver.plan.spec, driver.plan.spec.resources
    limit_s = spec.hung_after_s
    if driver.store.remote and limit_s:  # where claims are put now and then
        limit_s = max(limit_s, REMOTE_HUNG_S)
    handle, watchdog = DriverHandle(driver), Watchdog(driver.store, limit_s)
    with (
        _ray(scratch, driver.options.address, driver.display.slots * resources.cpus),
        _tunes_files(driver, scratch) as storage,
        head_watched(driver, driver.options.address or ""),
    ):
        if driver.options.address:
            check_nodes(driver.store)
            _fit_to_cluster(driver)
        gpus = gpus_per_trial(resources, driver.device)
        tuner = tune.Tuner(
            tune.with_resources(TrialActor, trial_request(resources.cpus, gpus)),
            tune_config=tune.TuneConfig(
                search_alg=DriverSearcher(handle),
                scheduler=DriverScheduler(handle),
                num_samples=-1,
                # Unset, Tune starts one at a time; the driver hands out as many as there are slots.
                max_concurrent_trials=MOST_SLOTS,
                reuse_actors=True,
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(storage),
                callbacks=[DriverCallback(handle, watchdog)],
                stop=DriverStopper(handle),
                # Trials keep their own checkpoints in the results folder.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # A lost trial goes back to the driver, which hands it out again.
                failure_config=tune.FailureConfig(max_failures=0),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception:
            # With a full disk Tune may be unable to write files of its own too.
            if driver.fatal is None:
                raise


def trial_request(cpus: int, gpus: float) -> Callable[[dict[str, Any]], Any]:
    """What a trial asks Ray for: a share of a GPU, or all of it where it must be alone there."""

    def request(config: dict[str, Any]) -> Any:
        whole = max(1.0, gpus) if gpus and config["assignment"].alone else gpus
        return tune.PlacementGroupFactory([{"CPU": cpus, **({"GPU": whole} if whole else {})}])

    return request


@contextlib.contextmanager
def _tunes_files(driver: Driver, scratch: Path) -> Iterator[Path]:
    """A folder for what Tune writes and nobody reads."""
    if not driver.options.address:
        yield scratch
        return
    folder = tunes_folder(driver.store)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trial_id(trial: Any) -> str:
    return str(trial.config["assignment"].trial.trial_id)


def _cause(trial: Any) -> Cause:
    """How a trial was lost, from what Tune wrote of the exception."""
    text = _error_text(trial)
    if trial.pickled_error_file is None:  # written for Ray's own exceptions alone
        return Cause("start", "Ray Tune cannot run it")
    if "node has died" in text or re.search("^The actor .* is unavailable", text, re.MULTILINE):
        return Cause("node")
    if re.search("^The actor (died|is dead)", text, re.MULTILINE) and CREATION not in text:
        return Cause("process", exit_words(text))
    # Whatever a trial raises is its result, so this is not the trial's.
    lines = text.strip().splitlines()
    return Cause("start", lines[-1] if lines else "Ray does not say why")


def _fit_to_cluster(driver: Driver) -> None:
    """Take device and slots from what the cluster has, and follow it from now on; `GridError`
    where it is too little for what was asked.
    """
    resources, wanted = driver.plan.spec.resources, driver.options.slots
    have = ray.cluster_resources()
    driver.device = "cuda" if resources.gpus != 0 and have.get("GPU") else "cpu"
    if (most := _room(driver)) < 1:
        gpus = gpus_per_trial(resources, driver.device)
        raise GridError(
            f"the cluster has no room for one trial ({resources.cpus} CPU cores, {gpus:g} GPUs)"
        )
    if wanted and wanted > most:
        raise GridError(f"--slots {wanted}: the cluster takes {most} trials at a time")
    driver.display.slots = wanted or most
    looked = time.monotonic()

    def fit() -> None:
        nonlocal looked, most
        if time.monotonic() - looked < LOOK_EVERY_S:
            return
        looked = time.monotonic()
        before, most = most, _room(driver)
        if most != before:
            driver.display.note(
                f"the cluster takes {counted(most, 'trial')} at a time now"
                if most
                else "the cluster has no room for a trial now: waiting for a node"
            )
        # One is handed out even if there is no node for it: it starts as soon as there is one.
        driver.display.slots = max(min(most, wanted or most), 1)

    driver.fit = fit


def _room(driver: Driver) -> int:
    """How many trials the cluster takes at a time now."""
    resources, have = driver.plan.spec.resources, ray.cluster_resources()
    most = int(have.get("CPU", 0) // resources.cpus)
    if gpus := gpus_per_trial(resources, driver.device):
        most = min(most, int(have.get("GPU", 0) / gpus))
    return most


@contextlib.contextmanager
def _ray(scratch: Path, address: str | None, cpus: int) -> Iterator[None]:
    """A Ray of our own with a token of its own, or the one at `address`; quiet either way."""
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # At the end Tune would name lost trials as incomplete, though the driver ran them again.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
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
