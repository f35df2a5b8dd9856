"""Syntax trees by what they mean: equal digests from every version of Python.

`ast.dump` differs between versions and has docstrings; this traversal leaves out docstrings, empty
fields and positions. Comments and the layout of lines are in no syntax tree.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

# Fields that say how something was written, not what it does.
_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(nodes: Iterable[ast.AST]) -> str:
    """Return the SHA-256 of syntax trees in their order, as hexadecimal digits."""
    hashed = hashlib.sha256()
    for node in nodes:
        for piece in _pieces(node):
            hashed.update(piece.encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def body(node: ast.AST) -> list[ast.stmt]:
    """Return the statements of a module, class or function without its docstring."""
    statements: list[ast.stmt] = getattr(node, "body", [])
    if isinstance(node, _WITH_DOCSTRING) and statements and _is_text(statements[0]):
        return statements[1:]
    return statements


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, ast.Constant):
        yield f"({_constant(value.value)})"
    elif isinstance(value, ast.AST):
        yield f"({type(value).__name__}"
        for name, field in _fields(value):
            yield f" {name}="
            yield from _pieces(field)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _pieces(item)
            yield ","
        yield "]"
    else:
        yield _constant(value)


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name in sorted(node._fields):
        value = getattr(node, name, None)
        if name == "body":
            value = body(node) if isinstance(value, list) else value
        elif isinstance(node, ast.JoinedStr):
            value = _text_parts(node)
        elif name == "format_spec" and isinstance(value, ast.JoinedStr) and not _text_parts(value):
            continue
        elif isinstance(node, ast.MatchSingleton):  # its None is a value
            value = _constant(value)
        if name not in _IGNORED and value is not None and value != []:
            yield name, value


def _text_parts(node: ast.JoinedStr) -> list[ast.expr]:
    """Return an f-string's parts; neighbouring texts as one, which versions split differently."""
    parts: list[ast.expr] = []
    for part in node.values:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            last = parts[-1] if parts else None
            if isinstance(last, ast.Constant):
                parts[-1] = ast.Constant(str(last.value) + part.value)
            elif part.value:
                parts.append(part)
        else:
            parts.append(part)
    return parts


def _constant(value: Any) -> str:
    # Decimal text of very long whole numbers is refused by Python.
    text = hex(value) if type(value) is int else repr(value)
    return f"{type(value).__name__} {text}"


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
