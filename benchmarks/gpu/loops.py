"""Training loops to compare: this project's, hand-written ones on the device, the tutorial's."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncore.config import TrialConfig
from cnncore.data import open_splits
from cnncore.data.cache import ImageData
from cnncore.models import build_model
from cnncore.training.train import EpochResult, start, train

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH_SIZE = 128
# Options of each network that is measured.
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn3": {},
    "mobilenet_small": {},
    "resnet18": {"stem": "cifar"},
    "mobilenet_v2": {},
}


def load_images(count: int) -> ImageData:
    """`count` training images and all test images: CIFAR-10 if it is there, else noise."""
    arrays = read_cifar10(Path(os.environ.get("CNNGRID_DATA", "/tmp/data")))
    if arrays is None:
        random = np.random.default_rng(0)
        x = random.integers(0, 256, (count + 2000, 32, 32, 3), dtype=np.uint8)
        y = random.integers(0, 10, count + 2000)
        y[:10] = np.arange(10)
        train_x, train_y, test_x, test_y = x[:count], y[:count], x[count:], y[count:]
    else:
        train_x, train_y, test_x, test_y = arrays
    while len(train_x) < count:  # some batches are missing: use some images twice
        train_x, train_y = np.concatenate([train_x, train_x]), np.concatenate([train_y, train_y])
    return ImageData(
        name="cifar10" if arrays else "noise",
        class_names=tuple("0123456789"),
        train_images=np.ascontiguousarray(train_x[:count]),
        train_labels=train_y[:count].astype(np.int64),
        test_images=np.ascontiguousarray(test_x),
        test_labels=test_y.astype(np.int64),
        fingerprint="bench",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )


def read_cifar10(folder: Path) -> tuple[Any, Any, Any, Any] | None:
    """Training images and labels, test images and labels; `None` without either of the two."""
    training = read_batches(folder, [f"data_batch_{n}" for n in range(1, 6)])
    test = read_batches(folder, ["test_batch"])
    return (*training, *test) if training and test else None


def read_batches(folder: Path, names: list[str]) -> tuple[Any, Any] | None:
    """Images and labels of those batches that are there; `None` if none is."""
    images, labels = [], []
    for name in names:
        path = folder / "cifar-10-batches-py" / name
        if path.exists():
            batch = pickle.loads(path.read_bytes(), encoding="bytes")  # unpack.py wrote it
            images.append(batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(batch[b"labels"])
    return (np.concatenate(images), np.concatenate(labels)) if images else None


def wait_for_device() -> None:
    """Wait until the device has finished all its work."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def new_stream() -> Any:
    """A CUDA stream of its own."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]  # untyped


def autocast(precision: str) -> Any:
    """Mixed precision if `precision` is `bf16`."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16")


def make_config(arch: str, precision: str, count: int, **more: Any) -> TrialConfig:
    """The config of a trial on `count` training images that never ends by itself."""
    keys: dict[str, Any] = {
        "arch": arch,
        "dataset": "cifar10",
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr": 0.01,
        "weight_decay": 5e-4,
        "epochs": 10**6,
        "augment": ["crop", "flip"],
        "batch_size": BATCH_SIZE,
        "precision": precision,
        "val_fraction": 10 / (count + 10),
        "select": "last",
    }
    return TrialConfig.model_validate(keys | more)


def make_network(arch: str) -> nn.Module:
    """A network for 10 classes at 32x32; the same weights at every call."""
    torch.manual_seed(0)
    return build_model(arch, classes=10, image_size=32, **NETWORKS[arch])


def ours(arch: str, precision: str, steps: int) -> Callable[[], float]:
    """`cnncore.training.train.train` in epochs of `steps` steps, without evaluation."""
    count = steps * BATCH_SIZE
    config = make_config(arch, precision, count, **NETWORKS[arch])
    splits = open_splits(config, load_images(count + 10), DEVICE)
    state = start(config, make_network(arch), 0, DEVICE)
    events = train(state, splits, config, boundary_every_s=1e9)

    def epoch() -> float:
        event = next(events)
        assert isinstance(event, EpochResult)
        return event.train_images_per_s

    return epoch


def resident(arch: str, precision: str, steps: int, *, graph: bool = False) -> Callable[[], float]:
    """A hand-written loop with its images on the device, eager or with the step as one graph."""
    member = Member(arch, precision, steps)
    if graph:
        member.capture()

    def epoch() -> float:
        wait_for_device()
        started = time.perf_counter()
        member.epoch()
        wait_for_device()
        return steps * BATCH_SIZE / (time.perf_counter() - started)

    return epoch


class Member:
    """One network's training with everything on the device."""

    def __init__(
        self, arch: str, precision: str, steps: int, *, lr: float = 0.01, seed: int = 0
    ) -> None:
        data = load_images(steps * BATCH_SIZE)
        self.precision = precision
        self.pixels = torch.from_numpy(data.train_images).to(DEVICE)
        self.labels = torch.from_numpy(data.train_labels).to(DEVICE)
        mean, std = (torch.tensor(v, device=DEVICE).view(1, 3, 1, 1) for v in (data.mean, data.std))
        self.scale, self.shift = 1 / (255 * std), -mean / std
        self.model = make_network(arch).to(DEVICE).to(memory_format=torch.channels_last).train()
        on_cuda = DEVICE.type == "cuda"
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=torch.tensor(lr, device=DEVICE),
            momentum=0.9,
            weight_decay=5e-4,
            fused=on_cuda,
            foreach=None if on_cuda else False,
        )
        self.generator = torch.Generator(DEVICE).manual_seed(seed)
        self.x = torch.empty(BATCH_SIZE, 32, 32, 3, dtype=torch.uint8, device=DEVICE)
        self.y = torch.empty(BATCH_SIZE, dtype=torch.int64, device=DEVICE)
        self.loss = torch.zeros((), device=DEVICE)
        self.correct = torch.zeros((), device=DEVICE, dtype=torch.int64)
        self.graph: Any = None

    def augmented(self) -> tuple[Tensor, Tensor]:
        """The epoch's images and labels: shuffled, cropped and flipped in a few operations."""
        n = len(self.pixels)
        order = torch.randperm(n, device=DEVICE, generator=self.generator)
        padded = F.pad(self.pixels[order], (0, 0, 4, 4, 4, 4))
        top, left = torch.randint(0, 9, (2, n, 1), device=DEVICE, generator=self.generator)
        along = torch.arange(32, device=DEVICE)
        flip = torch.rand(n, 1, device=DEVICE, generator=self.generator) < 0.5
        rows, columns = along + top, torch.where(flip, 31 - along, along) + left
        image = torch.arange(n, device=DEVICE)[:, None, None]
        return padded[image, rows[:, :, None], columns[:, None]], self.labels[order]

    def step(self) -> None:
        """Train on the batch that lies in `x` and `y`."""
        x = self.x.permute(0, 3, 1, 2).float().mul(self.scale).add_(self.shift)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.precision):
            logits = self.model(x)
        loss = F.cross_entropy(logits.float(), self.y)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped
        self.optimizer.step()
        self.loss += loss.detach()
        self.correct += (logits.detach().argmax(1) == self.y).sum()

    def prepare(self, stream: Any, generator: torch.Generator | None = None) -> None:
        """Train a few steps on noise, on `stream`, as a capture needs it; leave no gradients."""
        self.x.random_(0, 256, generator=generator)
        self.y.random_(0, 10, generator=generator)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(4):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)

    def capture(self) -> None:
        """Make the step one CUDA graph; `epoch` replays it from now on."""
        self.prepare(new_stream())
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def epoch(self) -> float:
        """Train one epoch; the sum of its losses so far."""
        pixels, labels = self.augmented()
        for i in range(0, len(pixels), BATCH_SIZE):
            self.x.copy_(pixels[i : i + BATCH_SIZE])
            self.y.copy_(labels[i : i + BATCH_SIZE])
            if self.graph is None:
                self.step()
            else:
                self.graph.replay()
        return float(self.loss)


def tutorial(arch: str, workers: int, steps: int) -> Callable[[], float]:
    """The loop of PyTorch's tutorial: PIL images, a DataLoader, default format, fp32, `.item()`."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    data = load_images(steps * BATCH_SIZE)
    augment = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return steps * BATCH_SIZE

        def __getitem__(self, i: int) -> Any:
            return augment(Image.fromarray(data.train_images[i])), int(data.train_labels[i])

    loader = DataLoader(
        Images(),
        BATCH_SIZE,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=DEVICE.type == "cuda",
    )
    model = make_network(arch).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def epoch() -> float:
        started, total = time.perf_counter(), 0.0
        for x, y in loader:
            x, y = x.to(DEVICE), y.to(DEVICE)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped
            optimizer.step()
            total += loss.item()
        return steps * BATCH_SIZE / (time.perf_counter() - started)

    return epoch
