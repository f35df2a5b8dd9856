"""Networks of libraries beside those of the catalog: shared keys, and what their weights expect."""

import re
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

from cnncore.models.libraries import published
from grid.errors import SweepError
from grid.plan import network_of
from grid.plan.plan import expand_sweep
from grid.sweep.load import parse_sweep

FACTS = SimpleNamespace(image_size=64, class_count=10, fingerprint=None, validation=0)


def plan(archs, fixed, more=""):
    text = (
        f"sweep: s\ncompare: {{arch: {archs}}}\nfixed: {{dataset: digits, image_size: 64, "
        f"optimizer: sgd, lr: 0.1, epochs: 2, {fixed}}}\n{more}"
    )
    return expand_sweep(parse_sweep(text, "a.yaml"), lambda name, size: FACTS)


@pytest.mark.parametrize(
    ("arch", "key", "options"),
    [
        ("torchvision:resnet18", "dropout", None),
        ("timm:resnet18", "dropout", {"drop_rate": 0.3}),
        ("torchvision:resnet18", "width", None),
    ],
)
def test_a_shared_key_that_a_library_network_lacks_is_refused_with_a_rule_that_helps(
    arch, key, options
):
    with pytest.raises(SweepError) as caught:
        plan(f'["{arch}"]', f"{key}: 0.3")
    (problem,) = caught.value.problems
    assert problem.startswith(f"a.yaml:3: fixed.{key}: {arch} does not take {key}")
    rule = re.search(r"under `rules`: (\{.*\}) \(arch=", problem)
    assert rule
    assert YAML(typ="safe").load(rule[1])["set"].get("arch_options") == options
    good = plan(f'[vgg16, "{arch}"]' if key == "dropout" else f'["{arch}"]', f"{key}: 0.3",
                f"rules:\n  - {rule[1]}\n")  # fmt: skip
    config = good.trials[-1].config
    assert (getattr(config, key), config.arch_options) == (None, options)
    if key == "dropout":
        assert good.trials[0].config.dropout == 0.3


def test_a_shared_key_that_a_library_network_has_is_its_option():
    assert plan('["torchvision:squeezenet1_1"]', "dropout: 0.3").trials[0].config.dropout == 0.3


def test_the_plan_remarks_on_a_normalisation_that_the_weights_do_not_know(monkeypatch):
    monkeypatch.setattr(network_of.NetworkChecks, "_weights", lambda self, config, options: {})
    weights = "pretrained: imagenet"
    for arch, normalize, expected in (
        ("resnet18", "dataset", "it is dataset: set `normalize: imagenet`"),
        ("torchvision:resnet18", "half", "it is half: set `normalize: imagenet`"),
        ("torchvision:resnet18", "imagenet", None),
        ("timm:vit_tiny_patch16_224", "imagenet", "it is imagenet: set `normalize: half`"),
        ("timm:vit_tiny_patch16_224", "{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}", None),
    ):
        size = "image_size: 224, " if "vit" in arch else ""
        fixed = f"{size}{weights}, normalize: {normalize}"
        text = (
            f"sweep: s\ncompare: {{arch: ['{arch}']}}\nfixed: {{dataset: digits, "
            f"{'' if size else 'image_size: 64, '}optimizer: sgd, lr: 0.1, epochs: 2, {fixed}}}\n"
        )
        made = expand_sweep(parse_sweep(text, "a.yaml"), lambda name, side: FACTS)
        if expected is None:
            assert made.warnings == ()
        else:
            (warning,) = made.warnings
            assert arch in warning
            assert warning.endswith(expected)
    # Of others the plan writes the numbers.
    mean, std = (0.4, 0.5, 0.6), (0.25, 0.25, 0.25)
    monkeypatch.setattr(published, "published_normalization", lambda arch: (mean, std))
    (warning,) = plan('["torchvision:resnet18"]', weights).warnings
    assert "set `normalize: {mean: [0.4, 0.5, 0.6], std: [0.25, 0.25, 0.25]}`" in warning
