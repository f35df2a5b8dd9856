"""Fingerprints of the user's code: what changes them, what does not, in every version of Python."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grid.code import normal_form
from grid.code.modules import forget_listings
from grid.code.normal_form import digest
from grid.code.sources import OwnCode, OwnCodeError
from grid.code.stored import RanCode, changed_files

FILES = {
    "nets.py": '''
"""Networks."""
from torch import nn
from blocks import Residual
import helpers as h

CHANNELS = 4
DEPTH = 2

def tiny(classes):
    """Build a network."""
    return nn.Sequential(Residual(CHANNELS), h.head(classes))

class Big(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.depth = DEPTH

if __name__ == "__main__":
    print(tiny(10))
''',
    "blocks.py": """
from inner import size
class Residual:
    def __init__(self, channels): self.size = size(channels)
class Other:
    pass
""",
    "inner/__init__.py": "from .sizes import size\n",
    "inner/sizes.py": "FACTOR = 2\ndef size(n): return n * FACTOR\ndef unused(n): return n\n",
    "helpers.py": "def head(n): return n\ndef tail(n): return n\n",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write `FILES`, one of them edited, and return the fingerprint of the network."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(edited: str = "nets.py", old: str = "", new: str = "") -> str:
        for path, text in FILES.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
        assert old in FILES[edited]
        (tmp_path / edited).write_text(FILES[edited].replace(old, new) if old else FILES[edited])
        forget_listings()
        found = OwnCode().fingerprint("nets:tiny")
        assert found is not None
        return found

    return call


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("nets.py", "Networks.", "My networks."),
        ("nets.py", "Build a network.", "Build it."),
        ("nets.py", "CHANNELS = 4", "CHANNELS = 4  # few"),
        ("nets.py", "CHANNELS = 4", "CHANNELS = (4)"),
        ("nets.py", "DEPTH = 2", "DEPTH = 3"),  # of another network
        ("nets.py", "DEPTH = 2", "DEPTH = 2\nimport math\nfrom blocks import Other"),
        ("nets.py", "self.depth", "self.deep"),
        ("nets.py", "print(tiny(10))", "print(tiny(100))"),
        ("nets.py", "class Big", "def third(classes): return Big(classes)\n\nclass Big"),
        ("blocks.py", "class Other:\n    pass", "class Other:\n    x = 3"),
        ("inner/sizes.py", "def unused(n): return n", "def unused(n): return -n"),
        ("helpers.py", "def tail(n): return n", ""),
    ],
)
def test_what_the_network_does_not_use_changes_nothing(
    write: Callable[..., str], path: str, old: str, new: str
) -> None:
    assert write(path, old, new) == write()


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("nets.py", "CHANNELS = 4", "CHANNELS = 5"),
        ("nets.py", "CHANNELS = 4", "CHANNELS = 4.0"),
        ("nets.py", "CHANNELS = 4", "CHANNELS = 4\nCHANNELS += 1"),
        ("nets.py", "DEPTH = 2", "DEPTH = 2\nnn.Linear.bias = None"),  # runs at import
        ("nets.py", "from torch import nn", "from torch import ao as nn"),
        ("nets.py", "import helpers as h", "import blocks as h"),
        ("nets.py", "(classes))", "(classes + 1))"),
        ("nets.py", "class Big", "@print\nclass Big"),  # a decorator may do anything
        ("nets.py", "class Big(nn.Module)", "class Big(nn.Module, x=1)"),
        ("blocks.py", "size(channels)", "size(2 * channels)"),
        ("blocks.py", "class Other:\n    pass", "class Other:\n    print(3)"),
        ("inner/sizes.py", "FACTOR = 2", "FACTOR = 3"),  # three files away
        ("inner/__init__.py", "from .sizes import size", "from .sizes import unused as size"),
        ("helpers.py", "def head(n): return n", "def head(n): return -n"),
    ],
)
def test_what_the_network_uses_changes_it(
    write: Callable[..., str], path: str, old: str, new: str
) -> None:
    assert write(path, old, new) != write()


@pytest.mark.parametrize(
    "reaching",
    [
        "self.n = globals()['Other']()",
        "import sys; self.n = getattr(sys.modules[__name__], 'Other')()",
        "import blocks; self.n = getattr(blocks, 'Other')",
        "self.n = eval('Other()')",
    ],
)
def test_the_whole_file_counts_if_the_text_does_not_tell_what_is_used(
    write: Callable[..., str], reaching: str
) -> None:
    write()
    text = FILES["blocks.py"].replace("self.size = size(channels)", reaching)
    Path("blocks.py").write_text(text)
    before = OwnCode().fingerprint("nets:tiny")
    Path("blocks.py").write_text(text.replace("class Other:\n    pass", "class Other:\n    x = 3"))
    assert OwnCode().fingerprint("nets:tiny") != before


BASE = "class R:\n    K = {}\n    def __init_subclass__(c): R.K[c.__name__] = c\n"


@pytest.mark.parametrize(
    ("files", "edited", "old", "new"),
    [
        (
            {
                "fast.py": "def block(): return 8\n",
                "slow.py": "def block(): return 1\n",
                "own.py": "try:\n    from fast import block\nexcept ImportError:\n"
                "    from slow import block\ndef net(): return block()\n",
            },
            "fast.py", "8", "9",
        ),
        (
            {"own.py": "from math import pi\npi = 3\ndef net(): return pi\n"},
            "own.py", "= 3", "= 4",
        ),
        (
            {
                "base.py": BASE,
                "own.py": "from base import R\nclass B(R): w = 8\ndef net(): return R.K['B'].w\n",
            },
            "own.py", "8", "9",
        ),
        (
            {"own.py": "class R: pass\nclass B(R): w = 8\ndef net(): return R.__subclasses__()\n"},
            "own.py", "8", "9",
        ),
        (
            {
                "reg.py": "K = {}\ndef export(f):\n    K[1] = f\n    return f\n",
                "own.py": "from reg import export, K\n@export\ndef b(): return 8\n"
                "def net(): return K[1]()\n",
            },
            "own.py", "8", "9",
        ),
        (
            {"own.py": "A = 8\nB = A\nA = 9\ndef net(): return B\n"},
            "own.py", "B = A\nA = 9", "A = 9\nB = A",
        ),
        (
            {
                "lay.py": "W = 8\n",
                "own.py": "import lay\nfrom importlib import import_module as im\n"
                "def net(): return im('lay').W\n",
            },
            "lay.py", "8", "9",
        ),
        (
            {"own.py": "def block(): return 1\nfrom base import *\ndef net(): return block()\n",
             "base.py": "def block(): return 8\n"},
            "base.py", "8", "9",
        ),
        ({"ünets.py": "def net(): return 8\n"}, "ünets.py", "8", "9"),
        (
            {"own.py": f"W = {' + '.join(['1'] * 1500)}\ndef net(): return W\n"},
            "own.py", "1 + 1\n", "1 + 2\n",
        ),
        (
            {
                "one.py": "def block(): return 1\n",
                "two.py": "__all__ = ['other']\ndef other(): return 0\ndef block(): return 8\n",
                "own.py": "from one import *\nfrom two import *\ndef net(): return block()\n",
            },
            "two.py", "['other']", "['block']",
        ),
        (
            {
                "deep.py": "W = 8\n",
                "lib.py": "import importlib\ndef w(): return importlib.import_module('deep').W\n",
                "own.py": "def net():\n    import lib\n    return lib.w()\n",
            },
            "deep.py", "8", "9",
        ),
        (
            {
                "reg.py": "K = {}\ndef block(): return K['a']()\n",
                "own.py": "import reg\ndef a(): return 8\nreg.K['a'] = a\n"
                "def net(): return reg.block()\n",
            },
            "own.py", "8", "9",
        ),
        (
            {
                "reg.py": "class R:\n    kept = []\n    def __or__(s, f): s.kept.append(f)\n"
                "all_ = R()\n",
                "own.py": "from reg import all_\ndef a(): return 8\nB = all_ | a\n"
                "def net(): return all_.kept[0]()\n",
            },
            "own.py", "8", "9",
        ),
        (
            {
                "own.py": "class R:\n    def __getitem__(s, f): s.f = f\nr = R()\n"
                "def a(): return 8\nclass C:\n    k = r[a]\ndef net(): return r.f()\n",
            },
            "own.py", "8", "9",
        ),
        (
            {"own.py": "X = []\ndef a(): return 8\nX += [a]\ndef net(): return X[0]()\n"},
            "own.py", "8", "9",
        ),
        (
            {"own.py": "B = len\ndef len(x): return 8\ndef net(): return B('')\n"},
            "own.py", "B = len\ndef len(x): return 8\n", "def len(x): return 8\nB = len\n",
        ),
    ],
    ids=[
        *("try", "shadowed", "subclass", "classes", "export", "order", "alias", "star", "ü"),
        "deep",
        *("__all__", "literal", "item", "operator", "subscript", "augmented", "builtin"),
    ],
)  # fmt: skip
def test_what_is_bound_in_more_than_one_way_counts_in_all(
    files: dict[str, str], edited: str, old: str, new: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    name = "ünets:net" if edited == "ünets.py" else "own:net"
    for path, text in files.items():
        (tmp_path / path).write_text(text, "utf-8")
    forget_listings()
    before = OwnCode().fingerprint(name)
    assert before is not None
    assert old in files[edited]
    (tmp_path / edited).write_text(files[edited].replace(old, new), "utf-8")
    assert OwnCode().fingerprint(name) != before


@pytest.mark.parametrize(
    "text",
    [
        "A = 4\nB = 2 * A\ndef other(): return B\ndef net(): return 1\n",
        "from math import pi\nTABLE = {'a': pi}\nB = TABLE['a'] * 2\ndef net(): return 1\n",
        "from torch import nn\nB = nn.Module | None\ndef net(): return 1\n",
        "class K: pass\nB = K | None\ndef net(): return 1\n",
        "import json\ndef other(): return open('own.txt').read()\ndef net(): return 1\n",
    ],
    ids=["numbers", "table", "installed", "class", "file"],
)
def test_operators_on_plain_values_stay_definitions_that_nothing_mentions(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("8")
    found = set()
    for content in (text, "def net(): return 1\n"):
        (tmp_path / "own.py").write_text(content)
        forget_listings()
        code = OwnCode()
        found.add(code.fingerprint("own:net"))
        assert code.unwatched("own:net") == []
    assert len(found) == 1


@pytest.mark.parametrize(
    ("reading", "watched"),
    [
        ("open('sizes.json').read()", True),
        ("open('own_data/sizes.json', encoding='utf-8').read()", True),
        ("(Path(__file__).parent / 'own_data' / 'sizes.json').read_text()", True),
        ("open(os.path.join(HERE, 'own_data', 'sizes.json')).read()", True),
        ("(Path(__file__).parent / 'own_data/sizes.json').read_text()", True),
        ("Path(__file__).with_name('sizes.json').read_bytes()", True),
        ("open(FILE).read()", True),
        ("json.load(open(f'{HERE}/{NAME}'))", False),
        ("open('sizes.json', 'a').write('8')", None),
        ("Path('sizes.json').write_text('8')", None),
    ],
)
def test_a_file_that_code_names_counts_by_its_content_and_others_are_remarked_on(
    reading: str, watched: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`watched` is None for a file that the code only writes."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import json, os\nfrom pathlib import Path\nFILE = 'sizes.json'\nHERE, NAME = '.', 'x'\n"
        f"def net(): return {reading}\n"
    )
    (tmp_path / "own_data").mkdir()
    forget_listings()
    found = []
    for content in ("[8]", "[9]"):
        folder = tmp_path / "own_data" if "own_data" in reading else tmp_path
        (folder / "sizes.json").write_text(content)
        code = OwnCode()
        found.append(code.fingerprint("own:net"))
        if (now := code.sources(["own:net"])) and len(found) == 1:
            before = now
    assert (found[0] != found[1]) == bool(watched)
    if watched:  # the message names the file, not the code that reads it
        stored: Any = SimpleNamespace(about=lambda folder: before.about())
        text = changed_files(stored, RanCode(("own:net",), None, 0, folder="x"), now)
        assert text in ("sizes.json was", "own_data/sizes.json was")
    assert code.unwatched("own:net") == (["own.py:5"] if watched is False else [])


def test_a_module_that_imports_by_name_brings_its_whole_package(tmp_path: Path) -> None:
    package = tmp_path / "zoo_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import importlib\ndef build(classes, kind='small'):\n"
        "    return importlib.import_module('zoo_of_mine.' + kind).build(classes)\n"
    )
    (package / "small.py").write_text("def build(classes): return classes\n")
    sys.path.insert(0, str(tmp_path))
    try:
        sources = OwnCode().sources(["zoo_of_mine:build"])
        assert sources is not None
        assert [path for path, _ in sources.files()] == [
            "zoo_of_mine/__init__.py",
            "zoo_of_mine/small.py",
        ]
        before = OwnCode().fingerprint("zoo_of_mine:build")
        (package / "small.py").write_text("def build(classes): return -classes\n")
        assert OwnCode().fingerprint("zoo_of_mine:build") != before
    finally:
        sys.path.remove(str(tmp_path))


def test_paths_do_not_count_and_files_of_others_have_no_fingerprint(
    write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write()
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in ("nets.py", "blocks.py", "helpers.py", "inner"):
        (tmp_path / path).rename(moved / path)
    monkeypatch.chdir(moved)
    monkeypatch.syspath_prepend(moved)
    forget_listings()
    assert OwnCode().fingerprint("nets:tiny") == before
    assert OwnCode().fingerprint("torchvision.models:resnet18") is None
    assert OwnCode().fingerprint("cnncore.models:build_model") is None
    assert OwnCode().fingerprint("not_there:at_all") is None


@pytest.mark.parametrize(
    ("hidden", "text"),
    [
        ("random", r"nets.py:\d+ imports random, but Python's module .* not .*random.py; rename"),
        ("numpy", r"nets.py:\d+ imports numpy, but the installed numpy .* not .*numpy.py; rename"),
        ("analysis", r"nets.py:\d+ imports analysis, but .* not .*analysis.py; rename your file"),
    ],
)
def test_a_file_that_another_module_hides_is_refused(
    write: Callable[..., str], tmp_path: Path, hidden: str, text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    sys.path.append(str(tmp_path))  # as the command does: after everything installed
    (tmp_path / f"{hidden}.py").write_text("x = 1\n")
    (tmp_path / "nets.py").write_text(f"import {hidden}\n{FILES['nets.py']}")
    with pytest.raises(OwnCodeError, match=text):
        OwnCode().fingerprint("nets:tiny")


SAMPLE = '''
"""A module."""
from __future__ import annotations
import a.b as c
from . import d
X: int = -1
Y = (1.5, 2j, b"x", "ä\\ud800", None, ..., True, 10**5, 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFF)
def f(a, /, b=1, *args, c, d: "int" = 2, **kw) -> list[int]:
    """Doc."""
    text = f"{a!r:>{b}} and {{braces}} {c=} {d:%Y-%m}" "more"
    match a:
        case {"k": [1, *rest], **others} if rest: return {**kw, "x": lambda q=1: (yield q)}
        case None | True | C(x=3): pass
    with open(a) as g, h: ...
    try: ...
    except* ValueError as e: raise e from None
    return [i for i in range(3) if i] or {k: v async for k, v in z}
@dec(1)
class K(Base, metaclass=M):
    """Doc."""
    x: int
    async def g(self): await self.x[1:2, ::3]; return not -self.x @ 2 // 3
'''
# The digest that every version of Python since 3.11 gives.
GOLDEN = "8cd15c6e840e912113cb1a240dfa0a17d4ea5ad4fcada5149267f9267bb55510"


def test_every_version_of_python_gives_the_same_digest() -> None:
    assert digest([ast.parse(SAMPLE)]) == GOLDEN
    program = (
        f"import ast, runpy; names = runpy.run_path({normal_form.__file__!r}); "
        f"print(names['digest']([ast.parse({SAMPLE!r})]))"
    )
    for minor in (11, 12, 13, 14):
        python = shutil.which(f"python3.{minor}")
        if python is None or subprocess.run([python, "-V"], capture_output=True).returncode:
            continue
        printed = subprocess.run([python, "-c", program], capture_output=True, text=True)
        assert printed.stdout.strip() == GOLDEN, f"3.{minor}: {printed.stderr}"
