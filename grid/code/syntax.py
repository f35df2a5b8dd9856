"""Pieces of syntax trees: what runs at import, what is bound, imported and mentioned."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import TypeGuard

from grid.code.modules import OwnModule

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def at_import(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run at import: not those of a script or of a type checker alone."""
    for statement in statements:
        if isinstance(statement, ast.If):
            if _is_script_test(statement.test):
                yield from at_import(statement.orelse)
                continue
            name = chain(statement.test)
            if name and name[-1] == "TYPE_CHECKING":
                yield from at_import(statement.orelse)
                continue
        yield statement


def is_plain_import(statement: ast.stmt) -> TypeGuard[ast.Import | ast.ImportFrom]:
    """Check whether a statement imports names; not all of a module, nor the future's rules."""
    if isinstance(statement, ast.Import):
        return True
    if not isinstance(statement, ast.ImportFrom) or statement.module == "__future__":
        return False
    return all(alias.name != "*" for alias in statement.names)


def _is_script_test(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
        and isinstance(test.ops[0], ast.Eq)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value == "__main__"
    )


def import_targets(
    module: OwnModule, statement: ast.Import | ast.ImportFrom
) -> Iterator[tuple[str, str, str | None]]:
    """Yield for each name of an import: the name that it binds, the module, the name there."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], alias.name, None
        return
    target = statement.module or ""
    if statement.level:
        package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
        package = package[: len(package) - statement.level + 1]
        target = ".".join([*package, *([target] if target else [])])
    if not target:
        return
    for alias in statement.names:
        yield alias.asname or alias.name, target, alias.name


def imported_by_text(call: ast.Call) -> str | None:
    """Return the module that `import_module("x")` or `__import__("x")` names, if a literal does."""
    names = chain(call.func)
    if names is None or names[-1] not in ("import_module", "__import__") or not call.args:
        return None
    first = call.args[0]
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def resolved(module: OwnModule, name: str) -> str:
    """Return the full name of a module that another one names, which may be relative: `.small`."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    return ".".join([*package[: len(package) - level + 1], *filter(None, [name[level:]])])


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a statement that are evaluated when it runs: no bodies of functions."""
    stack: list[ast.AST] = [node]
    while stack:
        current = stack.pop()
        yield current
        if isinstance(current, ast.FunctionDef | ast.AsyncFunctionDef):
            stack += [*current.decorator_list, *current.args.defaults]
            stack += filter(None, current.args.kw_defaults)
        elif isinstance(current, ast.Lambda):
            stack += [*current.args.defaults, *filter(None, current.args.kw_defaults)]
        else:
            stack.extend(ast.iter_child_nodes(current))


def chains(node: ast.AST) -> Iterator[list[str]]:
    """Yield every name with the attributes that are read of it: `[torch, nn, Linear]`."""
    stack: list[ast.AST] = [node]
    while stack:
        current = stack.pop()
        if names := chain(current):
            yield names
            continue
        stack.extend(ast.iter_child_nodes(current))


def chain(node: ast.AST) -> list[str] | None:
    """Return a name and its attributes; None for another expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return [node.id, *reversed(attributes)]
    return None


def bound_names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds when it runs."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    names = set()
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        stack.extend(ast.iter_child_nodes(node))
    return names


def may_act(node: ast.AST) -> bool:
    """Check whether code outside the bodies of functions calls something, awaits or assigns it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    if isinstance(node, ast.Call | ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
        return True
    return any(map(may_act, ast.iter_child_nodes(node)))
