"""Two images through a network before any trial of it, in a process of its own.

So are the user's optimizers, schedules, transforms, losses, epochs and metrics tried. The process
may be changed, hang or die by what their code does: `grid/code/asked.py` starts it and reads its
answers, a line of JSON for each.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncore.data.augment.own_transform import try_transform
from cnncore.error_text import defined_at, error_line, is_own_file, own_line
from cnncore.measure.device import prepare_process
from cnncore.measure.memory import is_out_of_memory
from cnncore.measure.own_metrics import check_metric_function
from cnncore.models.builder import build_model, import_network
from cnncore.models.classifier_head import freeze_features
from cnncore.models.image_sides import describe_sides
from cnncore.models.logits import check_logits, describe_extra
from cnncore.models.on_meta import build_on_meta, show_images
from cnncore.own_modules import in_use, use
from cnncore.process_settings import unchanged
from cnncore.training.memory_format import to_channels_last
from cnncore.training.optimizers.tried import try_optimizer
from cnncore.training.own_check import try_epoch, try_loss
from cnncore.training.own_signatures import try_schedule, try_signature
from cnncore.training.repeatable import repeatable_only

# Last operations of networks that return probabilities, as autograd names them.
PROBABILITIES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid"}


def main(descriptor: str) -> None:
    """Answer the requests on standard input; the answers go to a file by its descriptor."""
    answers = int(descriptor)
    os.set_inheritable(answers, False)
    torch.set_num_threads(1)
    present = in_use()
    for request in json.load(sys.stdin):
        use(request.pop("code_folder", None) or present)
        known = bool(request.pop("code", None))
        with unchanged():  # whatever the network changes, the next one does not see
            answer = CHECKS[request.pop("check")](**request)
        # The fingerprints of stored code are in the request.
        answer["files"] = {} if known and in_use() else own_files()
        os.write(answers, json.dumps(answer).encode() + b"\n")


def check(
    arch: str,
    classes: int,
    image_size: int,
    options: dict[str, Any],
    freeze: bool,
    copied: bool,
    device: str,
    deterministic: bool = False,
) -> dict[str, Any]:
    """Build a network and pass images through it; return its `problem`, or None, and `notes`.

    On the device `meta` nothing is computed; a network that cannot go there goes to `device`. As in
    a trial, what importing and building change is put back at once. `tried` is false if the memory
    did not suffice: others may have had it. With `deterministic`, operations that a GPU does not
    repeat are a problem too.
    """
    notes: list[str] = []

    def build(side: int = image_size) -> nn.Module:
        return build_model(arch, classes=classes, image_size=side, **options)

    for place in ("meta", device):
        try:
            with unchanged():  # before `meta`, which is not for constants of the user's module
                import_network(arch)
            torch.manual_seed(0)
            with unchanged():
                model = build_on_meta(build) if place == "meta" else build()
            if place != "meta":
                prepare_process(place)
                model.to(place)
            if freeze:
                freeze_features(model)
            with repeatable_only() if deterministic else contextlib.nullcontext():
                notes = pass_images(model, classes, image_size, copied=copied)
        except BaseException as error:  # `sys.exit` too: it is the network's own
            if place == device:
                if is_out_of_memory(error):
                    return {"problem": None, "notes": [], "tried": False}
                problem = _problem(arch, error)
                if sides := _sides(build, classes, image_size):
                    problem = f"{problem}; {sides}, got {image_size}"
                return {"problem": problem, "notes": [], "tried": True}
        else:
            break
    return {"problem": None, "notes": notes, "tried": True}


def _sides(build: Callable[[int], nn.Module], classes: int, image_size: int) -> str | None:
    """Return in words which image sides a network takes, None if the side is not what is wrong."""

    def fits(side: int) -> bool:
        try:
            with unchanged():
                show_images(build_on_meta(lambda: build(side)), side, classes)
        except BaseException:  # the user's own code may raise anything
            return False
        return True

    return None if fits(image_size) else describe_sides(fits, image_size)


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {
    "network": check,
    "optimizer": try_optimizer,
    "signature": try_signature,
    "schedule": try_schedule,
    "transform": try_transform,
    "loss": try_loss,
    "train_epoch": try_epoch,
    "metric": check_metric_function,
}


def pass_images(model: nn.Module, classes: int, image_size: int, *, copied: bool) -> list[str]:
    """Train `model` on two images as a trial does, then show it one; return remarks.

    Raises `ValueError` if the outputs are no logits or no weight gets a gradient.
    """
    weight = next(model.parameters(), torch.empty(0))
    images = torch.rand(2, 3, image_size, image_size, device=weight.device)
    images = images.to(memory_format=torch.channels_last)
    to_channels_last(model)
    returned: list[Any] = []
    if not isinstance(model, torch.jit.ScriptModule):
        model.register_forward_hook(lambda m, i, output: returned.append(output), prepend=True)
    model.train()
    outputs = model(images)
    logits, *heads = outputs if isinstance(outputs, tuple) and outputs else (outputs,)
    for head in (logits, *heads):
        check_logits(head, 2, classes)
    loss = sum(F.cross_entropy(head.float(), torch.zeros(2, dtype=torch.int64, device=head.device))
               for head in (logits, *heads))  # fmt: skip
    assert isinstance(loss, Tensor)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    if all(p.grad is None for p in model.parameters()):
        raise ValueError(
            "no weight gets a gradient from the logits: all are frozen (requires_grad), or the "
            "network cuts the gradient off (no_grad, detach, argmax)"
        )
    notes = [describe_extra(returned[0])] if returned and not heads else []
    last = PROBABILITIES.get(type(logits.grad_fn).__name__)
    if last:
        notes.append(
            f"returns probabilities (its last step is a {last}), but the loss takes logits: leave "
            "that step out"
        )
    model.zero_grad()
    returned.clear()
    if copied:
        try:
            copy.deepcopy(model)
        except Exception as error:
            raise ValueError(
                f"the network cannot be copied, as `select: best` and `ema` do: {error_line(error)}"
            ) from None
    model.eval()
    with torch.inference_mode():
        check_logits(model(images[:1]), 1, classes)
    return [note for note in notes if note]


def own_files() -> dict[str, str]:
    """Return the user's own files that were imported, with a hash of each."""
    files: dict[str, str] = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and module.__name__ != "__main__" and is_own_file(path):
            try:
                with open(path, "rb") as file:
                    files[os.path.abspath(path)] = hashlib.sha256(file.read()).hexdigest()
            except OSError:
                continue
    return files


def _problem(arch: str, error: BaseException) -> str:
    """Return an error in a line, with the line of the user's code that it comes from."""
    place = own_line(error)
    # Without such a line a `ValueError` is of our own checks: its text says all.
    ours = place is None and isinstance(error, ValueError)
    text = str(error).removeprefix(f"{arch}: ") if ours else error_line(error)
    place = place or _defined_at(arch)
    return f"{text} ({place})" if place else text


def _defined_at(arch: str) -> str | None:
    """Return the place of the user's function or class, None if there is none."""
    try:
        return defined_at(import_network(arch))
    except BaseException:  # the message matters more
        return None
