"""Networks on the device `meta`, where tensors have shapes and nothing is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from cnncore.models.logits import check_logits, find_logits

Build = Callable[[], nn.Module]


def build_on_meta(build: Build) -> nn.Module:
    """Call a function that builds a network, and return the network on `meta`.

    A function that reads numbers while it builds, as torchvision's RegNets do, cannot run there;
    it is called once more with nothing but the parameters there. Raises what the function raises.
    """
    try:
        with torch.device("meta"):
            return build()
    except Exception:
        with parameters_on_meta():
            return build().to("meta")


def show_images(model: nn.Module, side: int, classes: int) -> None:
    """Show a network on `meta` two images as in training, then one as in evaluation.

    Raises what the network raises, `ValueError` if it does not return logits.
    """
    for batch, training in ((2, True), (1, False)):
        model.train(training)
        with torch.no_grad(), torch.device("meta"):
            outputs = model(torch.zeros(batch, 3, side, side))
        check_logits(find_logits(outputs), batch, classes)


@contextlib.contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Move every parameter to `meta` as a module gets it, before its values are drawn."""
    register = nn.Module.register_parameter
    # A parameter that several modules share stays one.
    moved = WeakIdKeyDictionary()

    def register_on_meta(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(module, name, param)
        if type(param) is not nn.Parameter or param.is_meta:
            return
        if param not in moved:
            moved[param] = nn.Parameter(param.to("meta"), param.requires_grad)
        module._parameters[name] = moved[param]

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
