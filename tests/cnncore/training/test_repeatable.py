"""Operations that a GPU repeats to the bit: the replaced ones are equal, the others are named."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnncore.models import build_model
from cnncore.process_settings import unchanged
from cnncore.training.repeatable import use_deterministic
from cnncore.training.two_images import check, pass_images
from tests.gpu.pretend_cuda import pretend_cuda


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with unchanged():
        yield


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    with pretend_cuda():
        yield torch.device("cuda")


def pooled(images: torch.Tensor, size: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pooled images and the gradient of a weighted sum of them, on the CPU."""
    images = images.detach().requires_grad_()
    output = F.adaptive_avg_pool2d(images, size)  # type: ignore[arg-type]
    weights = torch.arange(output.numel(), dtype=output.dtype).view(output.shape)
    (output * weights.to(output.device)).sum().backward()
    assert images.grad is not None
    return output.detach().cpu(), images.grad.cpu()


@pytest.mark.parametrize("side", [1, 2, 5, 6, 7, 8, 13, 14])
@pytest.mark.parametrize("size", [1, 4, 6, 7, (3, 5), (None, 2)])
def test_pooling_on_a_gpu_equals_that_on_a_cpu(side: int, size: object, gpu: torch.device) -> None:
    images = torch.rand(2, 3, side, side + 1, dtype=torch.float64)
    expected = pooled(images, size)
    use_deterministic(True, gpu)
    for actual, wanted in zip(pooled(images.to(gpu), size), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("side", "size"), [(6, 6), (7, 7), (1, 7), (3, 6), (14, 14)])
def test_windows_of_one_pixel_are_equal_to_the_bit(side: int, size: int, gpu: torch.device) -> None:
    """Those of AlexNet and VGG at the images' published size, and of VGG at 32 pixels."""
    images = torch.rand(2, 3, side, side)
    expected, _ = pooled(images, size)
    use_deterministic(True, gpu)
    actual, _ = pooled(images.to(gpu), size)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize(("arch", "side"), [("alexnet", 67), ("googlenet", 64)])
def test_networks_with_adaptive_pooling_train_in_deterministic_mode(
    arch: str, side: int, gpu: torch.device
) -> None:
    torch.use_deterministic_algorithms(True)
    model = build_model(arch, classes=10, image_size=side).to(gpu)
    with pytest.raises(RuntimeError, match="adaptive_avg_pool2d_backward_cuda does not have"):
        pass_images(model, 10, side, copied=False)
    use_deterministic(True, gpu)
    pass_images(model, 10, side, copied=False)


def test_the_mode_ends_with_the_trial() -> None:
    with unchanged() as changed:
        use_deterministic(True, torch.device("cuda"))
        use_deterministic(True, torch.device("cuda"))
    assert "torch's function and dispatch modes" in changed
    assert not torch.overrides._get_current_function_mode_stack()


def network(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(16, 10))  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (nn.AdaptiveMaxPool2d(5), "AdaptiveMaxPool2d (adaptive_max_pool2d_backward)"),
        (nn.ReflectionPad2d(1), "ReflectionPad2d (reflection_pad2d_backward)"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), "interpolate (bicubic)"),
        (nn.MaxPool2d(2), None),
    ],
)
def test_the_plan_names_the_operation_that_a_gpu_does_not_repeat(
    layer: nn.Module, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnncore.training import two_images

    monkeypatch.setattr(two_images, "import_network", lambda arch: None)
    monkeypatch.setattr(two_images, "build_model", lambda arch, **options: network(layer))
    asked: dict[str, Any] = {"arch": "nets:a", "classes": 10, "image_size": 16, "options": {},
                             "freeze": False, "copied": False, "device": "cpu"}  # fmt: skip
    assert check(**asked)["problem"] is None
    answer = check(**asked, deterministic=True)["problem"]
    if problem is None:
        assert answer is None
    else:
        assert "deterministic: true, but a GPU has no deterministic kernel for" in answer
        assert problem in answer
