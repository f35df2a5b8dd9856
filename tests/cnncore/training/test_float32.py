"""32-bit products: IEEE's unless TF32 is asked for, and as they were after the trial."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cnncore.config import TrialConfig
from cnncore.process_settings import ProcessSettings
from cnncore.training.float32 import use_float32, why_no_tf32
from cnncore.training.train import start

SETTING = "torch's precision of float32"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def settings() -> Iterator[ProcessSettings]:
    before = ProcessSettings()
    yield before
    before.put_back()
    assert SETTING not in before.changed()


def products() -> set[str]:
    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    return {part.fp32_precision for part in parts}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fp32_is_ieee_also_if_the_process_was_set_to_tf32(precision: str) -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    config = TrialConfig.model_validate(
        {"arch": "cnn3", "dataset": "digits", "optimizer": "sgd", "lr": 0.1, "epochs": 1}
        | {"precision": precision}
    )
    start(config, torch.nn.Linear(2, 2), 0, CPU)
    assert products() == {"ieee"}
    # A network may ask by the older interface, which must not contradict the newer.
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_tf32_is_for_one_trial(monkeypatch: pytest.MonkeyPatch, settings: ProcessSettings) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    before = torch.backends.cudnn.allow_tf32
    use_float32("tf32", CUDA)
    assert products() == {"tf32"}
    assert torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"
    assert SETTING in settings.put_back()
    assert torch.backends.cudnn.allow_tf32 == before
    use_float32("fp32", CUDA)
    assert products() == {"ieee"}


def test_tf32_is_refused_where_it_would_be_another_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="tf32: trials run on the CPU here, which has no TF32"):
        use_float32("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert why_no_tf32("cuda") is None
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert "NVIDIA_TF32_OVERRIDE=0" in (why_no_tf32("cuda") or "")
