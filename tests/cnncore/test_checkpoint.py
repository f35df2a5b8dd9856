import os
from typing import Any

import pytest
import torch

from cnncore.checkpoint import DamagedCheckpoint, load_checkpoint, save_checkpoint

PAYLOAD: dict[str, Any] = {
    "weights": torch.arange(1000.0),
    "epoch": 3,
    "names": ["a", None],
    "best": 0.5,
}


def test_a_checkpoint_reads_back_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "new" / "last.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"epoch": 1})
    save_checkpoint(path, PAYLOAD)
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert torch.equal(loaded.pop("weights"), PAYLOAD["weights"])
    assert loaded == {key: value for key, value in PAYLOAD.items() if key != "weights"}
    assert os.listdir(path.parent) == ["last.pt"]


def test_the_old_checkpoint_survives_a_failed_write(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {"epoch": 2, "bad": lambda: None})
    assert load_checkpoint(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["last.pt"]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "code", "list"])
def test_a_damaged_file_is_named_and_runs_no_code(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    save_checkpoint(path, PAYLOAD)
    whole = path.read_bytes()
    content = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}
    if damage in content:
        path.write_bytes(content[damage])
    else:
        torch.save(Evil() if damage == "code" else [1], path)
    with pytest.raises(DamagedCheckpoint, match=r"last\.pt"):
        load_checkpoint(path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("part", ["tensor", "values"])
def test_a_changed_bit_is_found(tmp_path, part):
    path = tmp_path / "last.pt"
    save_checkpoint(path, PAYLOAD)
    content = bytearray(path.read_bytes())
    where = PAYLOAD["weights"].numpy().tobytes() if part == "tensor" else b"names"
    content[content.index(where) + len(where) // 2] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True), "torch reads it without a word"
    with pytest.raises(DamagedCheckpoint, match="was changed"):
        load_checkpoint(path)
