"""Parameters and multiply-accumulates of libraries' networks against the published ones."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights, list_models

from cnncore.complexity import count_parameters, measure_complexity
from cnncore.models import build_model
from cnncore.models.on_meta import build_on_meta

# Differences from what torchvision publishes, each with its reason; all others agree.
EXPLAINED = {
    # Its published count is without the auxiliary heads; with aux_weight 0 it agrees.
    "googlenet": {"aux_weight": 0.0},
}
# Multiply-accumulates, in billions, and parameters, in millions, in
# huggingface/pytorch-image-models: results/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv.
TIMM = {
    "resnet18": (11.69, 1.82),
    "efficientnet_b0": (5.29, 0.40),
    "mobilenetv3_large_100": (5.48, 0.23),
    "regnety_004": (4.34, 0.41),
    "ghostnet_100": (5.18, 0.15),
    "densenet169": (14.15, 3.40),
    "vit_tiny_patch16_224": (5.72, 1.26),
    "deit_small_patch16_224": (22.05, 4.61),
    "mixer_s16_224": (18.53, 3.79),
    "convnext_nano": (15.59, 2.46),
    "inception_v3": (23.83, 5.73),
    "crossvit_tiny_240": (7.01, 1.57),
}


def on_meta(arch, side, **options):
    return build_on_meta(lambda: build_model(arch, classes=1000, image_size=side, **options))


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("name", list_models(module=torchvision.models))
def test_counts_are_those_that_torchvision_publishes(name):
    for weights in get_model_weights(name):
        side = weights.transforms.keywords["crop_size"]
        model = on_meta(f"torchvision:{name}", side, **EXPLAINED.get(name, {}))
        assert count_parameters(model).trainable == weights.meta["num_params"]
        macs = measure_complexity(model, side).macs
        assert macs
        # Published in billions with three decimals.
        assert macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=6e-4)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(torch.zeros(1, 3, side, side, device="meta"))
        assert macs == counter.get_total_flops() / 2


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_counts_are_those_that_timm_publishes(name):
    side = timm.get_pretrained_cfg(name).input_size[-1]
    model = on_meta(f"timm:{name}", side)
    parameters, published = TIMM[name]
    assert count_parameters(model).trainable / 1e6 == pytest.approx(parameters, abs=0.0051)
    macs = measure_complexity(model, side).macs
    assert macs
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side, device="meta"))
    assert macs == counter.get_total_flops() / 2
    # timm counts by fvcore, which adds 2 for each element of a BatchNorm and 5 of a LayerNorm.
    assert (macs + norm_operations(model, side)) / 1e9 == pytest.approx(published, abs=0.0051)


def norm_operations(model: nn.Module, side: int) -> int:
    """Return what fvcore counts for normalisations (`batchnorm_flop_jit`, `norm_flop_counter`)."""
    total = 0

    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: object) -> None:
        nonlocal total
        total += inputs[0].numel() * (2 if isinstance(module, _BatchNorm) else 5)

    for module in model.modules():
        if isinstance(module, _BatchNorm | nn.LayerNorm):
            module.register_forward_hook(add)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side, device="meta"))
    return total
