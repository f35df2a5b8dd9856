"""Contract of every optimizer: PyTorch's own options and steps, equal numbers after a resume."""

import inspect
import itertools
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cnncore.checkpoint import load_checkpoint, save_checkpoint
from cnncore.config import OPTIMIZERS, TrialConfig, optimizer_moments
from cnncore.config.optimizers import NO_OPTIONS, OPTIMIZER_KEYS, UNUSABLE
from cnncore.data import load_dataset, open_splits
from cnncore.seeding import seed_everything
from cnncore.training.optimizers.build import build_optimizer, set_rate
from cnncore.training.train import start, train

CPU = torch.device("cpu")
# Options beside the defaults, so that every value that can be kept per weight is.
MORE: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer_options": {"dampening": 0.3}, "weight_decay": 0.1},
    "adam": {"optimizer_options": {"amsgrad": True, "eps": 1e-3}, "betas": [0.8, 0.9]},
    "adamw": {"optimizer_options": {"amsgrad": True}, "weight_decay": 0.1},
    "adadelta": {"optimizer_options": {"rho": 0.5}, "weight_decay": 0.1},
    "adafactor": {"optimizer_options": {"beta2_decay": -0.5, "d": 2.0}, "weight_decay": 0.1},
    "adagrad": {"optimizer_options": {"lr_decay": 0.1, "initial_accumulator_value": 1.0}},
    "adamax": {"betas": [0.8, 0.9], "weight_decay": 0.1},
    "asgd": {"optimizer_options": {"lambd": 0.1, "t0": 1.0}, "weight_decay": 0.1},
    "nadam": {"optimizer_options": {"momentum_decay": 0.1, "decoupled_weight_decay": True}},
    "radam": {"optimizer_options": {"eps": 1e-3}, "weight_decay": 0.1},
    "rmsprop": {"optimizer_options": {"alpha": 0.9, "centered": True}, "momentum": 0.5},
    "rprop": {"optimizer_options": {"etas": [0.4, 1.5], "step_sizes": [1e-3, 1]}},
    "muon": {"optimizer_options": {"ns_steps": 3, "adamw_ratio": 0.5}, "nesterov": False},
}
CASES = [(name, more) for name in OPTIMIZERS for more in ({}, MORE[name])]


def make_config(optimizer: str, **keys: Any) -> TrialConfig:
    return TrialConfig(
        **{
            "arch": "small",
            "dataset": "digits",
            "optimizer": optimizer,
            "lr": 0.01,
            "epochs": 2,
            "limit_train": 96,
            "batch_size": 32,
            **keys,
        }
    )


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 1),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )
    return model.to(memory_format=torch.channels_last)


def torch_classes() -> dict[str, type]:
    """Return the optimizers of the installed PyTorch by their names here."""
    snake = {"SparseAdam": "sparse_adam", "Optimizer": ""}
    return {
        snake.get(name, name.lower()): value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }


def test_every_optimizer_of_the_installed_pytorch_is_known_with_its_own_options_and_defaults():
    classes = torch_classes()
    del classes[""]
    assert set(classes) == {*OPTIMIZERS, *UNUSABLE}
    for name, kind in OPTIMIZERS.items():
        _, *parameters = inspect.signature(classes[name]).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.name not in ("lr", *NO_OPTIONS)}
        ours = {**kind.keys, **kind.options().model_dump()}
        added = {"sgd": {"momentum_form"}, "muon": {"betas", "adamw_ratio", "adamw_eps"}}
        assert set(ours) - added.get(name, set()) == set(defaults), name
        differ = {key for key, value in defaults.items() if ours[key] != value}
        assert differ == ({"momentum"} if name == "sgd" else set()), name
        assert classes[name].__name__ == kind.torch_class


VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "pair": [[0, 0], [0.5, 1.2], [1e-9, 1e9], [None, 0], [1, 1], [3, 1]],
    "triple": [[0, 0, 0], [3.4, -5, 2]],
    "number": [-1, -1e-9, 0, 1e-9, 0.5, 0.999, 1, 1.5, 99, 100, 1e9],
    "text": ["original", "match_rms_adamw", "spectral_unclamped", "other"],
}


def test_pytorch_takes_every_option_that_the_plan_lets_through():
    let_through = refused = 0
    for name, kind in OPTIMIZERS.items():
        for option, value in itertools.product(
            kind.options.model_fields, itertools.chain(*VALUES.values())
        ):
            try:
                config = make_config(name, optimizer_options={option: value})
            except ValidationError:
                refused += 1
                continue
            let_through += 1
            assert build_optimizer(config, network()), (name, option, value)
    assert let_through > 150
    assert refused > 300


def plain_optimizer(config: TrialConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build PyTorch's own with what a user would give it."""
    name = config.optimizer
    given = {
        key: getattr(config, key) for key in OPTIMIZER_KEYS if getattr(config, key) is not None
    }
    options = {**given, **(config.optimizer_options or {})}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    made: Any = torch_classes()[name]
    fused = {"fused": True} if name in ("sgd", "adam", "adamw") else {}
    return made(model.parameters(), lr=config.lr, **options, **fused)


@pytest.mark.parametrize(("name", "keys"), [case for case in CASES if case[0] != "muon"])
def test_every_step_is_that_of_pytorchs_own_optimizer(name, keys):
    config = make_config(name, **keys)
    ours, theirs = network(), network()
    optimizers = build_optimizer(config, ours), plain_optimizer(config, theirs)
    images = torch.rand(8, 3, 8, 8).to(memory_format=torch.channels_last)
    for step in range(4):
        rate = 0.01 / (1 + step)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            set_rate(optimizer, rate)
            torch.manual_seed(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), torch.arange(8)).backward()
            optimizer.step()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other), step
    assert not torch.equal(ours[0].weight, network()[0].weight)


@pytest.mark.parametrize(("name", "keys"), MORE.items())
def test_a_resumed_trial_gives_the_same_numbers_to_the_bit(name, keys, tmp_path):
    schedule = "constant" if name == "rprop" else "cosine"
    config = make_config(name, schedule=schedule, decay_norm_bias=False, **keys)
    splits = open_splits(config, load_dataset("digits", tmp_path), CPU)

    def begin():
        seed_everything(0)
        return start(config, network(), 0, CPU)

    state = begin()
    for i, _ in enumerate(train(state, splits, config, boundary_every_s=0.0)):
        save_checkpoint(tmp_path / f"{i}.pt", state.state_dict())
    whole = flat(state.state_dict())
    assert i == 5  # two epochs of three steps
    for stop in (1, 2, 3):  # within an epoch, at its end, within the next
        resumed = begin()
        nn.init.zeros_(next(resumed.model.parameters()))
        payload = load_checkpoint(tmp_path / f"{stop}.pt")
        assert payload is not None
        resumed.load_state_dict(payload)
        assert list(train(resumed, splits, config, boundary_every_s=1e9))
        assert flat(resumed.state_dict()) == whole, stop


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return every tensor and plain value of a nested state by its path, without times."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{path}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, one in enumerate(value) for k, v in flat(one, f"{path}/{i}").items()}
    if isinstance(value, torch.Tensor):
        return {path: (value.dtype, value.shape, value.contiguous().numpy().tobytes())}
    return {} if path.endswith("time_s") else {path: value}


@pytest.mark.parametrize(("name", "keys"), CASES)
def test_what_is_kept_per_weight_is_at_most_what_the_plan_counts(name, keys):
    config, model = make_config(name, **keys), network()
    optimizer = build_optimizer(config, model)
    model(torch.rand(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    kept = [v for k, v in tensors(optimizer.state_dict()) if v.numel() > 1]
    weights = sum(weight.numel() for weight in model.parameters())
    measured = sum(value.numel() for value in kept) / weights
    counted = optimizer_moments(name, config.momentum, config.optimizer_options)
    if name in ("adafactor", "muon"):  # less for large kernels, or for all but the classifier
        assert 0 < measured <= counted
    else:
        assert measured == counted


def tensors(value: Any) -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, dict):
        return [pair for one in value.values() for pair in tensors(one)]
    if isinstance(value, list | tuple):
        return [pair for one in value for pair in tensors(one)]
    return [("", value)] if isinstance(value, torch.Tensor) else []


def test_norms_and_biases_can_be_spared_weight_decay_beside_l2():
    model = network()
    config = make_config("sgd", weight_decay=0.1, l2=0.01, decay_norm_bias=False)
    decays = {
        id(weight): group["weight_decay"]
        for group in build_optimizer(config, model).param_groups
        for weight in group["params"]
    }
    for name, weight in model.named_parameters():
        assert decays[id(weight)] == (0.0 if weight.ndim < 2 else pytest.approx(0.12)), name
    assert make_config("sgd", weight_decay=0.1, decay_norm_bias=True).decay_norm_bias is None
    assert make_config("sgd", weight_decay=0.0, decay_norm_bias=False).decay_norm_bias is None


def test_an_option_that_equals_the_default_changes_no_config():
    plain = make_config("rmsprop")
    for options in ({"alpha": 0.99}, {"eps": None}, {"centered": False}, {}):
        assert make_config("rmsprop", optimizer_options=options) == plain
    given = make_config("rmsprop", optimizer_options={"alpha": 0.9, "centered": False})
    assert given.optimizer_options == {"alpha": 0.9}
    assert make_config("muon", optimizer_options={"adjust_lr_fn": "original"}) == make_config(
        "muon"
    )


@pytest.mark.parametrize(
    ("optimizer", "keys", "expected"),
    [
        ("lbfgs", {}, "needs a closure"),
        ("sparse_adam", {}, "sparse gradients only"),
        ("rmsprp", {}, r"closest: rmsprop"),
        ("rmsprop", {"optimizer_options": {"alhpa": 0.9}}, r"no option 'alhpa' \(closest: alpha\)"),
        ("rmsprop", {"optimizer_options": {"foreach": True}}, "how a step is computed"),
        ("rmsprop", {"optimizer_options": {"momentum": 0.9}}, "give `momentum` beside"),
        ("rmsprop", {"optimizer_options": {"alpha": 1.5}}, "less than 1"),
        ("rprop", {"schedule": "cosine"}, "a schedule would change nothing"),
        ("rprop", {"warmup_epochs": 1}, "leave warmup_epochs out"),
        ("rprop", {"l2": 0.1}, "has no weight decay"),
        ("nadam", {"l2": 0.1, "optimizer_options": {"decoupled_weight_decay": True}}, "apart from"),
        ("muon", {"freeze": "features"}, "use adamw"),
        ("sgd", {"nesterov": True, "momentum": 0}, "needs a momentum above 0"),
        ("sgd", {"nesterov": True, "optimizer_options": {"dampening": 0.1}}, "leave one of them"),
    ],
)
def test_what_no_trial_could_use_is_refused_with_its_reason(optimizer, keys, expected):
    with pytest.raises(ValidationError, match=expected):
        make_config(optimizer, **keys)
