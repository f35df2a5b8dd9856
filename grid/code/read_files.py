"""Files that code reads: those that it names by a literal path, and reads that tell no path."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from grid.code.syntax import chain

# Functions and methods by whose name a file is read, whatever they are called on.
_READING = frozenset({"read_text", "read_bytes", "loadtxt", "genfromtxt", "fromfile", "imread"})
# Those that read a file if they are called on one of these modules.
_LOADING = frozenset({"torch", "np", "numpy", "pickle", "json", "yaml", "joblib", "safetensors"})
# Functions and methods that write what they name; a log that a trial writes is no part of its code.
_WRITING = frozenset(
    {
        *("write_text", "write_bytes", "savez", "savez_compressed", "save", "savetxt", "dump"),
        *("to_csv", "to_json", "to_parquet", "savefig", "FileHandler", "SummaryWriter", "mkdir"),
    }
)
# First word of the part of a fingerprint that is a file: then come its digest and its path.
FILE = "file"
# Larger files are not read for a fingerprint, in bytes.
LARGEST = 256 * 2**20


def named_files(node: ast.AST, folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield each literal in a piece of code that is the path of a file in one of the folders.

    Only names with an ending count (`classes.json`), and not those of Python's own files or of what
    the code writes.
    """
    written = {text for call in _calls(node) if _writes(call) for text in _literals(call)}
    for text in sorted({*_literals(node)} - written):
        for folder in dict.fromkeys(folders):
            try:
                file = folder / text
                if file.suffix not in ("", ".py", ".pyc", ".so") and file.is_file():
                    yield text, file
            except (OSError, ValueError):  # no path at all, such as a long text
                continue


def content_digest(file: Path) -> str:
    """Return a hash of a file's bytes; of a very large one, its size."""
    if (size := file.stat().st_size) > LARGEST:
        return f"{size}-bytes"
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def file_of(part: str) -> str | None:
    """Return the path of the file that a part of a fingerprint stands for, None if for none."""
    kind, _, rest = part.partition(" ")
    return rest.partition(" ")[2] or None if kind == FILE else None


def reads(node: ast.AST) -> Iterator[int]:
    """Yield the line of each call that reads a file."""
    for call in _calls(node):
        names = chain(call.func) or []
        name = call.func.attr if isinstance(call.func, ast.Attribute) else "".join(names)
        loads = name == "load" and bool(names) and names[0] in _LOADING
        if (name == "open" or name in _READING or loads) and not _writes(call):
            yield call.lineno


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))


def _literals(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and inner.value:
            yield inner.value
        elif joined := _joined(inner):
            yield joined


def _joined(node: ast.AST) -> str | None:
    """Return the path that the texts at the end of `folder / "a" / "b"` or a join make."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        parts = list(node.args) if node.func.attr in ("join", "joinpath") else []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        parts, node = [node.right, *parts], node.left
    texts: list[str] = []
    for part in reversed(parts):
        if not (isinstance(part, ast.Constant) and isinstance(part.value, str)):
            break
        texts.insert(0, part.value)
    return "/".join(texts) if len(texts) > 1 else None


def _writes(call: ast.Call) -> bool:
    """Check whether a call writes a file: by its name, or by the mode that it opens it with."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in _WRITING:
        return True
    modes = [*call.args[:2], *(word.value for word in call.keywords if word.arg == "mode")]
    return name == "open" and any(
        isinstance(mode, ast.Constant)
        and isinstance(mode.value, str)
        and 0 < len(mode.value) <= 3
        and bool(set(mode.value) & set("wax+"))
        and set(mode.value) <= set("rwabtx+")
        for mode in modes
    )
