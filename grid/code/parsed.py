"""One module of the user's: what it does when it is imported, and what it only defines."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from grid.code.modules import Modules, OwnModule
from grid.code.normal_form import body
from grid.code.syntax import (
    DEFINITIONS,
    Definition,
    at_import,
    at_once,
    bound_names,
    chain,
    import_targets,
    is_plain_import,
    may_act,
)

# Decorators that do nothing but change what they decorate, unless the user has one of that name.
_PLAIN_DECORATORS = frozenset(
    {
        *("staticmethod", "classmethod", "property", "setter", "getter", "deleter"),
        *("abstractmethod", "override", "final", "overload", "dataclass", "total_ordering"),
        *("cache", "lru_cache", "cached_property", "wraps", "singledispatch", "contextmanager"),
        *("no_grad", "inference_mode", "enable_grad", "autocast", "compile", "script", "ignore"),
        *("unused", "export"),
    }
)
# Methods that run when a class gets a subclass, or when it is used in another way than by a call.
_HOOKS = frozenset({"__init_subclass__", "__class_getitem__", "__set_name__", "__mro_entries__"})

_BUILTINS = frozenset(dir(builtins))
# Expressions that call methods of their parts: `a | b`, `a[b]`, `a < b`.
_OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.Subscript, ast.Compare)

# A module, and the name in it; None for the module itself.
Target = tuple[str, str | None]


@dataclass
class Parsed:
    """The statements of a module: those that do something at import, and those that only define."""

    module: OwnModule
    running: list[ast.stmt] = field(default_factory=list)
    importing: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    # Functions, classes and constants by name.
    definitions: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    # Name -> all that imports may bind to it: those of `try` and `else` too.
    imports: dict[str, list[Target]] = field(default_factory=lambda: defaultdict(list))
    # Modules of which everything is imported (`from x import *`).
    stars: list[str] = field(default_factory=list)
    # Names that statements which run bind.
    assigned: set[str] = field(default_factory=set)


def parse(modules: Modules, module: OwnModule) -> Parsed:
    """Sort the statements of a module.

    If a name that something defines is bound once more, its meaning depends on the order of the
    statements: all of them run then.
    """
    parsed = Parsed(module)
    for statement in module.statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for bound, target in bindings(module, node):
                    if target not in parsed.imports[bound]:
                        parsed.imports[bound].append(target)
                parsed.stars += [t for b, t, _ in import_targets(module, node) if b == "*"]
    for statement in at_import(module.statements):
        if names := _defined(modules, parsed, statement):
            for name in names:
                parsed.definitions[name].append(statement)
        elif is_plain_import(statement):
            parsed.importing.append(statement)
        else:
            parsed.running.append(statement)
    for statement in parsed.running:
        parsed.assigned |= bound_names(statement)
    defined = {name for name, found in parsed.definitions.items() if name != "_"}
    again = {name for name in defined if len(parsed.definitions[name]) > 1}
    if (
        again
        or defined & (parsed.assigned | parsed.imports.keys())
        or (defined and parsed.stars)
        or _replaces_builtin(module, defined)
    ):
        parsed.running = list(at_import(module.statements))
        parsed.importing, parsed.definitions = [], defaultdict(list)
        for statement in parsed.running:
            parsed.assigned |= bound_names(statement)
    return parsed


def _replaces_builtin(module: OwnModule, defined: set[str]) -> bool:
    """Check whether a name that statements use at import is Python's before a definition of it."""
    names = defined & _BUILTINS
    return bool(names) and any(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names
        for statement in module.statements
        for node in at_once(statement)
    )


def bindings(
    module: OwnModule, statement: ast.Import | ast.ImportFrom
) -> Iterator[tuple[str, Target]]:
    """Yield the names that an import binds, each with what it is bound to."""
    for bound, target, name in import_targets(module, statement):
        if bound == "*":
            continue
        if isinstance(statement, ast.Import) and bound == target.partition(".")[0]:
            yield bound, (bound, None)
        else:
            yield bound, (target, name)


def _defined(modules: Modules, parsed: Parsed, statement: ast.stmt) -> list[str]:
    """Return the names that a statement binds if it does nothing else."""
    if isinstance(statement, DEFINITIONS):
        return [statement.name] if _only_defines(modules, parsed, statement) else []
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target] if statement.value else []
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    else:
        return []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    acts = may_act(statement) or _operates(modules, parsed.module, statement)
    return names if len(names) == len(targets) and not acts else []


def _only_defines(modules: Modules, parsed: Parsed, node: Definition) -> bool:
    """Check that a definition does nothing but to bind its name when its module is imported."""
    if not all(_is_plain_decorator(modules, parsed, item) for item in node.decorator_list):
        return False
    if not isinstance(node, ast.ClassDef):
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        return not any(map(may_act, defaults))
    if node.keywords or any(map(may_act, node.bases)):
        return False
    if any(_has_hook(modules, parsed.module, chain(base), set()) for base in node.bases):
        return False
    for statement in body(node):
        if isinstance(statement, DEFINITIONS):
            if not _only_defines(modules, parsed, statement):
                return False
        elif may_act(statement) or _operates(modules, parsed.module, statement):
            return False
    return True


def _operates(modules: Modules, module: OwnModule, node: ast.AST) -> bool:
    """Check whether a statement applies an operator to what may be an object of a user's class."""
    return any(
        _is_own_object(modules, module, names[0], names[1:], set())
        for part in at_once(node)
        if isinstance(part, _OPERATIONS)
        for operand in ast.iter_child_nodes(part)
        if (names := chain(operand))
    )


def _is_own_object(
    modules: Modules, module: OwnModule, name: str, rest: list[str], seen: set[tuple[str, str]]
) -> bool:
    """Check whether a name is bound to what a function or class of the user's own returned."""
    if (module.name, name) in seen:
        return False
    seen.add((module.name, name))
    for statement in module.statements:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            if _has_hook(modules, module, [name], set()):
                return True
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for bound, target, inner in import_targets(module, statement):
                own = modules.find(target) if bound in (name, "*") else None
                path = [name] if bound == "*" else [*([inner] if inner else []), *rest]
                if own and path and _is_own_object(modules, own, path[0], path[1:], seen):
                    return True
        elif (
            isinstance(statement, ast.Assign | ast.AnnAssign)
            and name in bound_names(statement)
            and _calls_own(modules, module, statement)
        ):
            return True
    return False


def _calls_own(modules: Modules, module: OwnModule, statement: ast.stmt) -> bool:
    """Check whether a statement calls a function or class of the user's own."""
    own = {one.name for one in module.statements if isinstance(one, DEFINITIONS)}
    for one in module.statements:
        if isinstance(one, ast.Import | ast.ImportFrom):
            targets = import_targets(module, one)
            own |= {bound for bound, target, _ in targets if modules.find(target)}
    calls = (part for part in at_once(statement) if isinstance(part, ast.Call))
    return any((names := chain(call.func)) is not None and names[0] in own for call in calls)


def _is_plain_decorator(modules: Modules, parsed: Parsed, node: ast.expr) -> bool:
    names = chain(node.func if isinstance(node, ast.Call) else node)
    if names is None or names[-1] not in _PLAIN_DECORATORS:
        return False
    if any(modules.find(target) for target, _ in parsed.imports.get(names[0], ())):
        return False
    own = set().union(*map(bound_names, parsed.module.statements))
    return names[0] not in own or len(names) > 1  # `@value.setter` follows a property


def _has_hook(
    modules: Modules, module: OwnModule, base: list[str] | None, seen: set[tuple[str, str]]
) -> bool:
    """Check whether a class of the user's own may do something when it gets a subclass."""
    if base is None:
        return True
    name, *attributes = base
    if (module.name, ".".join(base)) in seen:
        return False
    seen.add((module.name, ".".join(base)))
    known = False
    for statement in module.statements:
        if name not in bound_names(statement) and not _binds_by_import(module, statement, name):
            continue
        known = True
        if isinstance(statement, ast.ClassDef) and not attributes:
            methods = {item.name for item in statement.body if isinstance(item, DEFINITIONS)}
            if _HOOKS & methods or statement.keywords or statement.decorator_list:
                return True
            if any(_has_hook(modules, module, chain(b), seen) for b in statement.bases):
                return True
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for bound, target, inner in import_targets(module, statement):
                if bound == name and _imported_hook(modules, target, inner, attributes, seen):
                    return True
        else:
            return True
    if known:
        return False
    stars = [t for s in module.statements if isinstance(s, ast.ImportFrom)
             for b, t, _ in import_targets(module, s) if b == "*"]  # fmt: skip
    return any(modules.find(star) for star in stars)


def _imported_hook(
    modules: Modules,
    target: str,
    inner: str | None,
    attributes: list[str],
    seen: set[tuple[str, str]],
) -> bool:
    own = modules.find(target)
    if own is None:
        return False  # of an installed package
    path = [*([inner] if inner else []), *attributes]
    while path and own.is_package and (deeper := modules.find(f"{own.name}.{path[0]}")):
        own, path = deeper, path[1:]
    return _has_hook(modules, own, path, seen) if path else True


def _binds_by_import(module: OwnModule, statement: ast.stmt, name: str) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom) and any(
        bound == name for bound, _, _ in import_targets(module, statement)
    )
