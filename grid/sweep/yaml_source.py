"""YAML 1.2 with the line of every key, so that a message can name the line."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cnncore.spelling import shortened
from grid.errors import SweepError

if TYPE_CHECKING:
    from ruamel.yaml import YAML

# Values of a sweep file, aliases written out: a few lines of aliases can stand for billions.
MOST_VALUES = 100_000
# Limits on the text itself: reading 50,000 values takes two seconds, as do 1,000 merges (`<<`).
MOST_NODES = 50_000
MOST_MERGES = 1_000
DEEPEST = 100

# A key or item of a sweep file: `("tune", "axes", "lr")`.
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """Source of a sweep: its name for messages, its text, and the line of every key."""

    name: str
    text: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def position(self, path: KeyPath) -> str:
        """Return `a.yaml:14: tune.axes.lr`, with the line of the nearest key in the file."""
        line = self.line(path)
        start = f"{self.name}:{line}" if line else self.name
        return f"{start}: {dotted(path)}" if path else start

    def line(self, path: KeyPath) -> int | None:
        """Return the line of a key, or of the nearest key above it; None if there is none."""
        ancestors = (path[:n] for n in range(len(path), 0, -1))
        return next((self.lines[key] for key in ancestors if key in self.lines), None)


def read_yaml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """Return plain Python values, and the line of every key and item.

    Raises `SweepError` if the text is not YAML.
    """
    from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

    lines: dict[KeyPath, int] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML allows it
            tree = _limited_yaml(name).load(io.StringIO(text))
        # ruamel keeps an alias as the one value it names; here each becomes a value of its own.
        return _plain(tree, (), lines, ValueLimit(name)), lines
    except RecursionError:
        raise _too_deep(name) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = (error.problem or str(error)).split("\n")[0]
        raise SweepError([f"{name}{line}: not YAML: {problem}"]) from None
    except (YAMLError, ValueError) as error:
        raise SweepError([f"{name}: not YAML: {str(error).splitlines()[0]}"]) from None


def _limited_yaml(name: str) -> YAML:
    """Return ruamel's reader; it gives up early on a text that would take it minutes."""
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer

    class LimitedComposer(Composer):
        nodes = merges = level = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.nodes += 1
            self.level += 1
            if self.level > DEEPEST:
                raise _too_deep(name)
            node = super().compose_node(parent, index)
            self.merges += getattr(node, "value", None) == "<<"
            self.level -= 1
            if self.nodes > MOST_NODES or self.merges > MOST_MERGES:
                limits = f"{MOST_NODES:,} values or {MOST_MERGES:,} merges (<<)"
                raise SweepError([f"{name}: has more than {limits}, so not a sweep file"])
            return node

    yaml = YAML(typ="rt")
    yaml.Composer = LimitedComposer
    return yaml


def _too_deep(name: str) -> SweepError:
    return SweepError([f"{name}: is nested too deeply, so not a sweep file"])


@dataclass
class ValueLimit:
    """Count of the values that a file may still have, with its aliases written out."""

    name: str
    left: int = MOST_VALUES

    def take(self) -> None:
        """Count one more value. Raises `SweepError` if it is one too many."""
        self.left -= 1
        if self.left < 0:
            text = f"unfolds to more than {MOST_VALUES:,} values, so not a sweep file"
            raise SweepError([f"{self.name}: {text}"])


def _plain(node: Any, path: KeyPath, lines: dict[KeyPath, int], limit: ValueLimit) -> Any:
    """Return ruamel's tree as plain Python, and note the line of every key and item."""
    limit.take()
    if isinstance(node, Mapping):
        marks = getattr(getattr(node, "lc", None), "data", None) or {}
        result = {}
        for key, value in node.items():
            if key in marks:
                lines[(*path, key)] = marks[key][0] + 1
            result[key] = _plain(value, (*path, key), lines, limit)
        return result
    if isinstance(node, (list, tuple)):
        marks = getattr(getattr(node, "lc", None), "data", None) or {}
        for index in marks:
            lines[(*path, index)] = marks[index][0] + 1
        return [_plain(value, (*path, index), lines, limit) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):  # ruamel's own subclasses keep the spelling; drop it
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def dotted(path: KeyPath) -> str:
    """Write a key path as text: `rules[0].set.lr`."""
    return "".join(
        f"[{part}]"
        if isinstance(part, int)
        else f"{'.' if index else ''}{shortened(str(part), 80)}"
        for index, part in enumerate(path)
    )
