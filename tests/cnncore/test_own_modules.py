"""The user's modules imported from a stored copy."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnncore.own_modules import UnseenModule, in_use, use
from grid.code.sources import OwnCode


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a package, a file, and a folder without `__init__.py`, and store a copy of them."""
    original = tmp_path / "original"
    for path, text in {
        "own_nets.py": "import own_package.inner\nfrom own_plain.part import PART\nVALUE = 1\n"
        "def build():\n    return VALUE, own_package.inner.DEPTH, PART\n",
        "own_package/__init__.py": "",
        "own_package/inner.py": "import pathlib\nDEPTH = 2\nHERE = pathlib.Path(__file__).parent\n",
        "own_plain/part.py": "PART = 3\n",
        "own_late.py": "",
    }.items():
        (original / path).parent.mkdir(parents=True, exist_ok=True)
        (original / path).write_text(text)
    monkeypatch.syspath_prepend(original)
    sources = OwnCode().sources(["own_nets:build"])
    assert sources is not None
    yield sources.save(tmp_path / "copy")
    use(None)
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_edits_and_deletions_change_nothing(code: Path) -> None:
    original = code.parent / "original"
    use(code)
    (original / "own_nets.py").write_text("def build(): return 'edited'\n")
    (original / "own_plain" / "part.py").unlink()
    module = importlib.import_module("own_nets")
    assert module.build() == (1, 2, 3)
    # Data may lie beside the file, and a traceback shows the lines that ran.
    assert module.__file__ == str(original / "own_nets.py")
    assert original / "own_package" == importlib.import_module("own_package.inner").HERE
    assert "VALUE, own_package" in inspect.getsource(module.build)
    assert not list(code.rglob("*.pyc"))


def test_a_process_goes_from_copy_to_copy_and_back(code: Path) -> None:
    before = importlib.import_module("own_nets")
    other = code.parent / "other"
    (code.parent / "original" / "own_nets.py").write_text("def build(): return 'edited'\n")
    edited = OwnCode().sources(["own_nets:build"])
    assert edited is not None
    edited.save(other)
    use(code)
    assert importlib.import_module("own_nets").build() == (1, 2, 3)
    use(other)
    assert importlib.import_module("own_nets").build() == "edited"
    assert in_use() == other
    use(None)
    assert importlib.import_module("own_nets") is before


def test_a_module_that_was_not_stored_is_refused_by_name(code: Path) -> None:
    use(code)
    with pytest.raises(UnseenModule, match=r"own_late \(.*own_late.py\) is imported, but"):
        importlib.import_module("own_late")
    assert importlib.import_module("colorsys")  # Python's own, and installed ones, are
    use(None)
    assert importlib.import_module("own_late")
