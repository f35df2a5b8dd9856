"""Ray Tune: reused actors run the trials, its searcher and scheduler ask the driver."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper as TuneStopper

from grid.cost.devices import count_gpus
from grid.cost.slots import gpus_per_trial
from grid.errors import GridError, StoreError, Superseded
from grid.run.capacity import ClusterCapacity
from grid.run.lost_trials import Cause
from grid.run.ray_tune.cluster import check_nodes, join
from grid.run.ray_tune.environment import tune_folder
from grid.run.ray_tune.head import head_watched
from grid.run.ray_tune.watchdog import Watchdog
from grid.run.signals import hangup_ignored

if TYPE_CHECKING:
    from grid.run.driver import Driver
    from grid.trial.assignment import Assignment, Progress


# More than any cluster takes.
MOST_SLOTS = 100_000
# Ray's words about an actor that could not be created.
CREATION = "because of an error raised in its creation task"


class TrialActor(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Runs one trial after another in one process; a step is an epoch or the trial's end."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first trial."""
        self._begin(config["assignment"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial."""
        self.cleanup()
        self._begin(new_config["assignment"])
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch, or evaluate at the end.

        Raises `BrokenDevice`, for which Tune ends this process.
        """
        try:
            progress = next(self._steps)
        except StoreError as problem:
            return {"problem": str(problem), "done": True}
        except Superseded:
            return {"superseded": True, "done": True}
        return {"progress": progress, "done": progress.done}

    def cleanup(self) -> None:
        """Close a trial that has ended or was stopped."""
        self._steps.close()
        self._store.close()

    def _begin(self, assignment: Assignment) -> None:
        from grid.store.open import open_store

        self._store = open_store(assignment.results)
        self._steps = self._run(assignment)

    def _run(self, assignment: Assignment) -> Generator[Progress, None, None]:
        from grid.trial.trial import run_trial

        self._store.files.check_present(expected=True)
        yield from run_trial(assignment, self._store)


class DriverHandle:
    """A reference to the driver in objects that Tune copies and pickles.

    A pickle refers to no driver, because Ray's own files are never read again.
    """

    def __init__(self, driver: Driver | None) -> None:
        self._driver = driver

    def __call__(self) -> Driver:
        """Return the driver."""
        assert self._driver is not None
        return self._driver

    def __deepcopy__(self, memo: dict[int, Any]) -> DriverHandle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return DriverHandle, (None,)


class DriverSearcher(Searcher):  # type: ignore[misc]
    """Asks the driver for the next trial."""

    def __init__(self, driver: DriverHandle) -> None:
        super().__init__(metric=None, mode=None)
        self._driver = driver

    def suggest(self, trial_id: str) -> Any:
        """Return a config that holds nothing but the assignment, or the end."""
        try:
            assignment = self._driver().next()
        except GridError as problem:
            self._driver().fail(problem)
            return Searcher.FINISHED
        if assignment is None:
            # None: nothing to run now; Tune asks again after the next event.
            return Searcher.FINISHED if self._driver().over else None
        return {"assignment": assignment}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the driver knows already."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the results folder is the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the results folder is the only state."""


class DriverScheduler(FIFOScheduler):  # type: ignore[misc]
    """Asks the driver whether a trial goes on."""

    def __init__(self, driver: DriverHandle) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return the decision after an epoch; Tune does not ask after a trial's end."""
        stop = False
        try:
            stop = self._driver().progress(result["progress"])
        except GridError as problem:
            self._driver().fail(problem)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


class DriverCallback(tune.Callback):  # type: ignore[misc]
    """Reports ended and lost trials to the driver; must not raise, or the sweep ends.

    Kills hung trials, which Tune then reports as lost.
    """

    def __init__(self, driver: DriverHandle, watchdog: Watchdog) -> None:
        self._driver = driver
        self._watchdog = watchdog
        self._actors: dict[str, Any] = {}
        self._killed: set[str] = set()

    def on_trial_start(self, **event: Any) -> None:
        """Watch a trial that a process has taken."""
        trial_id = _trial_id(event["trial"])
        self._actors[trial_id] = event["trial"].temporary_state.ray_actor
        self._watchdog.started(trial_id)

    def on_step_end(self, **event: Any) -> None:
        """Kill hung trials; Tune calls this several times a second."""
        for trial_id in self._watchdog.hung():
            self._killed.add(trial_id)
            ray.kill(self._actors[trial_id])

    def on_trial_result(self, **event: Any) -> None:
        """Report the end of a trial; the scheduler takes all other results."""
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
        """Forget a trial that ended or was stopped."""
        self._forget(_trial_id(event["trial"]))

    def on_trial_error(self, **event: Any) -> None:
        """Report a lost trial: its process or node died, or it could not be started."""
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
    """Return Tune's text on a trial's last failure."""
    try:
        return (
            Path(trial.error_file)
            .read_text(encoding="utf-8", errors="replace")
            .rpartition("Failure # ")[2]
        )
    except (OSError, TypeError):
        return ""


def exit_words(error: str) -> str:
    """Return Ray's words on the end of a trial's process, in a line."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    reasons = [line for line in lines if re.match("The actor (is dead|died) because", line)]
    words = (reasons or lines or ["Ray does not say why"])[-1]
    words = words.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    likely = ""
    if "Worker exit type: SYSTEM_ERROR" in error:
        likely = " (killed, by the kernel where the machine's memory ran out, or crashed)"
    return f"its process died{likely}: {words[:300].rstrip('.')}"


class DriverStopper(TuneStopper):  # type: ignore[misc]
    """Ends Tune's experiment when the driver stops."""

    def __init__(self, driver: DriverHandle) -> None:
        self._driver = driver

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: the scheduler stops single trials."""
        return False

    def stop_all(self) -> bool:
        """Return whether everything that runs is to stop."""
        return self._driver().stopping


def run_tune(driver: Driver, scratch: Path) -> None:
    """Run every trial that the driver hands out on Ray: a local one, or that of `--address`.

    Ray, and so this module, must be imported inside `ray_environment`, whose folder is `scratch`.
    """
    spec, resources = driver.plan.spec, driver.plan.spec.resources
    # 0 turns the watchdog off.
    limit_s = spec.hung_after_s and max(spec.hung_after_s, driver.store.claims.silence_s)
    handle, watchdog = DriverHandle(driver), Watchdog(driver.store, limit_s)
    with (
        _ray(
            scratch,
            driver.options.address,
            driver.capacity.slots * resources.cpus,
            count_gpus() if driver.capacity.device == "cuda" else 0,
        ),
        _tune_files(driver, scratch) as storage,
        head_watched(driver, driver.options.address or ""),
    ):
        if driver.options.address:
            check_nodes(driver.store)
            assert isinstance(driver.capacity, ClusterCapacity)
            driver.capacity.join(ray.cluster_resources)
        gpus = gpus_per_trial(resources, driver.capacity.device)
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
    """Return the resources that a trial asks Ray for: its share of a GPU, or all of it if alone."""

    def request(config: dict[str, Any]) -> Any:
        share = 1.0 if gpus and config["assignment"].alone else gpus
        # Ray counts in ten-thousandths: rounded up, seven sevenths would not fit a GPU.
        share = math.floor(share * 10_000) / 10_000
        return tune.PlacementGroupFactory([{"CPU": cpus, **({"GPU": share} if share else {})}])

    return request


@contextlib.contextmanager
def _tune_files(driver: Driver, scratch: Path) -> Iterator[Path]:
    """Yield a folder for the files of Tune, which nobody reads."""
    if not driver.options.address:
        yield scratch
        return
    folder = tune_folder(driver.store)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trial_id(trial: Any) -> str:
    return str(trial.config["assignment"].trial.trial_id)


def _cause(trial: Any) -> Cause:
    """Return the cause of a loss from Tune's text on the exception."""
    text = _error_text(trial)
    if trial.pickled_error_file is None:  # written for Ray's own exceptions alone
        return Cause("start", "Ray Tune cannot run it")
    if "node has died" in text or re.search("^The actor .* is unavailable", text, re.MULTILINE):
        return Cause("node")
    if re.search("^The actor (died|is dead)", text, re.MULTILINE) and CREATION not in text:
        return Cause("process", exit_words(text))
    # An exception of the trial itself would be its result, so this one is of its process.
    lines = text.strip().splitlines()
    if broken := re.search(r"^grid\.errors\.BrokenDevice: (.*)", text, re.MULTILINE):
        return Cause("process", broken.group(1))
    return Cause("start", lines[-1] if lines else "Ray does not say why")


@contextlib.contextmanager
def _ray(scratch: Path, address: str | None, cpus: int, gpus: int) -> Iterator[None]:
    """Start a Ray of our own with a token of its own, or join that at `address`; both quiet.

    Ray's own count of GPUs may be another than PyTorch's, and trials would wait for ever.
    """
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # At the end Tune would name lost trials as incomplete, though the driver ran them again.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Ray puts the driver's folder first on the workers' path, and a user's own analysis.py there
    # would win over ours: give it an empty folder.
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
        _start(scratch, {"num_cpus": cpus, "num_gpus": gpus, **quiet})
    try:
        yield
    finally:
        ray.shutdown()


def _start(scratch: Path, settings: dict[str, Any]) -> None:
    """Start a Ray of this run's own, once more if it takes too long (`ray/_private/node.py`: 30 s).

    Raises `GridError` if the machine is too busy for the second try too.
    """
    for folder in ("ray", "ray2"):
        own: dict[str, Any] = {"include_dashboard": False, "_temp_dir": str(scratch / folder)}
        try:
            with hangup_ignored():
                ray.init(**own, **settings)
            return
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    raise GridError(
        "Ray did not start within 30 s, twice: this machine is busy with other work. Run the same "
        "command later, or with --local, which needs no Ray"
    )
