"""Functions by name: the user's own with the right parameters, none of the standard library."""

import sys

import pytest

from cnncore.data import DataError
from cnncore.data.sources.user_function import call
from cnncore.functions import import_function

MODULE = """
import functools, os
from os import getcwd as renamed
partly = functools.partial(os.getcwd)
wrapped = functools.partial(lambda size: size, 3)
nothing = 3
def needs(size): return {}
def raises(): raise ValueError("\\ud800")
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    (tmp_path / "ownfunctions.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("ownfunctions", None)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("antigravity:fly", "antigravity is a module of Python's standard library"),
        ("ownfunctions:renamed", "is a function of Python's standard library"),
        ("ownfunctions:partly", "is a function of Python's standard library"),
        ("ownfunctions:nothing", "is of the type int, neither a function nor a class"),
        ("ownfunctions:absent", "module ownfunctions has no function absent"),
        ("ownfunctions:Absent", "module ownfunctions has no class Absent"),
        ("ownfunctions:a.b", r"must be a known name or package\.module:function"),
        ("no_such_module:f", "must be installed or on PYTHONPATH"),
    ],
)
def test_what_is_no_function_of_the_users_is_refused(name, problem):
    with pytest.raises(ValueError, match=problem):
        import_function(name)
    assert "antigravity" not in sys.modules  # its import opens a browser


def test_a_data_set_function_is_called_without_arguments():
    assert call("ownfunctions:wrapped") == 3
    with pytest.raises(DataError, match=r"called as needs\(\), but missing a required argument"):
        call("ownfunctions:needs")
    with pytest.raises(DataError, match=r"ValueError: \\ud800 \(ownfunctions\.py:8\)"):
        call("ownfunctions:raises")
