"""The definitions that a name reaches: all that can change what it does.

These are the named object, the definitions that it mentions, and theirs, through every module of
the user's own; and all statements of these modules that do something when they are imported.
Definitions, constants and imports that nothing mentions are left out, so that a new network beside
the others changes none of them. Where the text does not tell what is mentioned, a whole file
counts, or a whole package.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from grid.code.modules import Modules, OwnModule, hidden_text, own_file
from grid.code.normal_form import body, digest

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# Names whose use can reach any definition of a file; `sys.modules` too.
_REACH_ALL = frozenset({"globals", "eval", "exec", "compile", "vars"})
# Names whose use can import any module of a package.
_IMPORT_ANY = frozenset({"importlib", "__import__", "pkgutil", "import_module"})
# Decorators that do nothing but change what they decorate.
_PLAIN_DECORATORS = frozenset(
    {
        *("staticmethod", "classmethod", "property", "setter", "getter", "deleter"),
        *("abstractmethod", "override", "final", "overload", "dataclass", "total_ordering"),
        *("cache", "lru_cache", "cached_property", "wraps", "singledispatch", "contextmanager"),
        *("no_grad", "inference_mode", "enable_grad", "autocast", "compile", "script", "ignore"),
        *("unused", "export"),
    }
)


@dataclass
class Parsed:
    """The statements of a module: those that do something at import, and those that only define."""

    module: OwnModule
    running: list[ast.stmt] = field(default_factory=list)
    importing: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    # Functions, classes and constants by name.
    definitions: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    # Name -> (module, name in it, or None for the module itself), of imports outside functions.
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    # Modules of which everything is imported (`from x import *`).
    stars: list[str] = field(default_factory=list)
    # Names that statements which run bind.
    assigned: set[str] = field(default_factory=set)


class Reach:
    """All that some names of the user's reach."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._parsed: dict[str, Parsed] = {}
        # Module -> names of reached definitions; a module without any runs all the same.
        self._reached: dict[str, set[str]] = defaultdict(set)
        self._whole: set[str] = set()
        # Module -> imported names that are mentioned.
        self._mentioned: dict[str, set[str]] = defaultdict(set)
        # Names that were followed, and whether their module has them.
        self._followed: dict[tuple[str, str], bool] = {}
        # Outermost names of modules that are imported and are not the user's.
        self.others: set[str] = set()
        # Texts on the user's files that are not imported, because another module has their name.
        self.hidden: list[str] = []

    def add(self, module: str, name: str) -> bool:
        """Add what `module:name` reaches; return False if the module is not the user's own."""
        own = self._modules.find(module)
        if own is None:
            outermost = module.partition(".")[0]
            self.others.add(outermost)
            if file := own_file(outermost, Path.cwd()):
                self.hidden.append(hidden_text(outermost, file))
            return False
        self._run(module)
        if not self._name(module, name):
            self._add_whole(module)
        return True

    def modules(self) -> list[OwnModule]:
        """Return all modules that are reached, sorted by name."""
        found = [self._modules.find(name) for name in sorted(self._reached)]
        return [module for module in found if module is not None]

    def content(self) -> list[list[str]]:
        """Return every module with the digests of its parts that are reached, in a fixed order."""
        found = ([module.name, *self._digests(module)] for module in self.modules())
        return [content for content in found if content[1:]]

    def _digests(self, module: OwnModule) -> Iterator[str]:
        if module.tree is None:
            if module.file is not None:
                yield hashlib.sha256(module.content).hexdigest()
            return
        parsed = self._parse(module)
        if parsed.running:
            yield digest(parsed.running)
        for name in sorted(self._reached[module.name]):
            yield f"{name} {digest(parsed.definitions[name])}"
        for name in sorted(self._mentioned[module.name]):
            target, inner = parsed.imports[name]
            yield f"{name} from {target} {inner or ''}"

    # -- following names -------------------------------------------------------------------

    def _run(self, name: str) -> None:
        """Add a module and its packages: what they do when they are imported."""
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            module = self._modules.find(".".join(parts[:n]))
            if module is None:
                return
            if module.name in self._reached:
                continue
            self._reached[module.name] = set()
            parsed = self._parse(module)
            for importing in parsed.importing:
                for _ in self._import(module, importing):
                    pass
            for statement in parsed.running:
                self._scan(parsed, statement)

    def _add_whole(self, name: str) -> None:
        module = self._modules.find(name)
        if module is None or name in self._whole:
            return
        self._whole.add(name)
        self._run(name)
        for definition in list(self._parse(module).definitions):
            self._name(name, definition)

    def _name(self, module: str, name: str) -> bool:
        """Add what a name of a module stands for; return whether the module has it."""
        key = (module, name)
        if key not in self._followed:
            self._followed[key] = True  # two modules may import it from each other
            own = self._modules.find(module)
            self._followed[key] = own is not None and self._has(own, name)
        return self._followed[key]

    def _has(self, module: OwnModule, name: str) -> bool:
        parsed = self._parse(module)
        if name in parsed.definitions:
            self._reached[module.name].add(name)
            for definition in parsed.definitions[name]:
                self._scan(parsed, definition)
            return True
        if name in parsed.imports:
            self._mentioned[module.name].add(name)
            self._follow(*parsed.imports[name], ())
            return True
        if name in parsed.assigned:
            return True
        if module.is_package and self._modules.find(f"{module.name}.{name}"):
            self._run(f"{module.name}.{name}")
            return True
        # All of them: each may have it.
        return any([self._name(star, name) for star in parsed.stars])

    def _scan(self, parsed: Parsed, node: ast.AST) -> None:
        """Follow every name that a piece of code mentions."""
        imports = dict(parsed.imports)
        for statement in ast.walk(node):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for bound, target in self._import(parsed.module, statement):
                    imports[bound] = target
        for chain in _chains(node):
            base, *attributes = chain
            if base in _REACH_ALL or chain[:2] == ["sys", "modules"]:
                self._add_whole(parsed.module.name)
            if base in _IMPORT_ANY:
                self._add_whole(parsed.module.name)
                self._add_package(parsed.module)
            if base in imports:
                if base in parsed.imports:
                    self._mentioned[parsed.module.name].add(base)
                self._follow(*imports[base], attributes)
            else:
                self._name(parsed.module.name, base)

    def _follow(self, module: str, name: str | None, attributes: Iterable[str]) -> None:
        """Follow `module.name.attribute...`, as far as it leads through modules."""
        path = [*([name] if name else []), *attributes]
        own = self._modules.find(module)
        if own is None:
            return
        self._run(module)
        if not path:  # the module is handed on as an object
            self._add_whole(module)
            return
        first, *rest = path
        if (
            own.is_package
            and not self._defines(own, first)
            and self._modules.find(f"{module}.{first}")
        ):
            self._follow(f"{module}.{first}", None, rest)
        elif first in (parsed := self._parse(own)).imports:
            self._mentioned[module].add(first)
            self._follow(*parsed.imports[first], rest)
        elif not self._name(module, first):
            self._add_whole(module)

    def _defines(self, module: OwnModule, name: str) -> bool:
        parsed = self._parse(module)
        return name in parsed.definitions or name in parsed.imports or name in parsed.assigned

    def _add_package(self, module: OwnModule) -> None:
        """Add every module of the outermost package: any of them may be imported by its name."""
        package = self._modules.find(module.name.partition(".")[0])
        if package is not None and package.is_package:
            for inner in self._modules.within(package):
                self._add_whole(inner.name)

    def _import(
        self, module: OwnModule, statement: ast.Import | ast.ImportFrom
    ) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """Run the modules of an import statement; yield the names that it binds."""
        for bound, target, name in _targets(module, statement):
            if self._modules.find(target.partition(".")[0]) is None:
                outermost = target.partition(".")[0]
                self.others.add(outermost)
                if file := own_file(outermost, module.root):
                    place = f"{module.path}:{statement.lineno} imports {outermost}, but "
                    self.hidden.append(place + hidden_text(outermost, file))
                continue
            self._run(target)
            if name is not None and self._modules.find(f"{target}.{name}"):
                own = self._modules.find(target)
                if own is not None and not self._defines(own, name):
                    self._run(f"{target}.{name}")
                    yield bound, (f"{target}.{name}", None)
                    continue
            if bound == "*":
                continue
            plain = isinstance(statement, ast.Import) and bound == target.partition(".")[0]
            yield bound, (bound if plain else target, name)

    # -- one module ------------------------------------------------------------------------

    def _parse(self, module: OwnModule) -> Parsed:
        if module.name in self._parsed:
            return self._parsed[module.name]
        parsed = self._parsed[module.name] = Parsed(module)
        for statement in _at_import(module.statements):
            if names := self._defined(parsed, statement):
                for name in names:
                    parsed.definitions[name].append(statement)
            elif _is_plain_import(statement):
                parsed.importing.append(statement)
            else:
                parsed.running.append(statement)
        # A name that is defined twice, or also assigned, depends on the order: all of it runs.
        for statement in parsed.running:
            for name in sorted(_bound(statement) & set(parsed.definitions)):
                parsed.running += parsed.definitions.pop(name)
        parsed.running.sort(key=lambda statement: statement.lineno)
        for statement in [*parsed.importing, *parsed.running]:
            parsed.assigned |= _bound(statement)
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    parsed.imports.update(self._bindings(module, node))
                    parsed.stars += [t for b, t, _ in _targets(module, node) if b == "*"]
        return parsed

    def _bindings(
        self, module: OwnModule, statement: ast.Import | ast.ImportFrom
    ) -> Iterator[tuple[str, tuple[str, str | None]]]:
        for bound, target, name in _targets(module, statement):
            if bound == "*":
                continue
            if isinstance(statement, ast.Import) and bound == target.partition(".")[0]:
                yield bound, (bound, None)
            else:
                yield bound, (target, name)

    def _defined(self, parsed: Parsed, statement: ast.stmt) -> list[str]:
        """Return the names that a statement binds if it does nothing else."""
        if isinstance(statement, _DEFINITIONS):
            return [statement.name] if self._only_defines(parsed, statement) else []
        if isinstance(statement, ast.AnnAssign):
            targets: list[ast.expr] = [statement.target] if statement.value else []
        elif isinstance(statement, ast.Assign):
            targets = statement.targets
        else:
            return []
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        return names if len(names) == len(targets) and not _calls(statement) else []

    def _only_defines(self, parsed: Parsed, node: Definition) -> bool:
        """Check that a definition does nothing but to bind its name when its module is imported."""
        if not all(map(_is_plain_decorator, node.decorator_list)):
            return False
        if not isinstance(node, ast.ClassDef):
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            return not any(map(_calls, defaults))
        if node.keywords or any(map(_calls, node.bases)):
            return False
        if any(self._has_hook(parsed, base) for base in node.bases):
            return False
        for statement in body(node):
            if isinstance(statement, _DEFINITIONS):
                if not self._only_defines(parsed, statement):
                    return False
            elif _calls(statement):
                return False
        return True

    def _has_hook(self, parsed: Parsed, base: ast.expr, seen: tuple[str, ...] = ()) -> bool:
        """Check whether a class of the user's own does something when it gets a subclass."""
        if not isinstance(base, ast.Name) or base.id in seen:
            return False
        for statement in parsed.module.statements:
            if isinstance(statement, ast.ClassDef) and statement.name == base.id:
                methods = {item.name for item in statement.body if isinstance(item, _DEFINITIONS)}
                return (
                    "__init_subclass__" in methods
                    or bool(statement.keywords)
                    or any(self._has_hook(parsed, b, (*seen, base.id)) for b in statement.bases)
                )
        for statement in parsed.module.statements:
            if isinstance(statement, ast.ImportFrom):
                for bound, target, name in _targets(parsed.module, statement):
                    own = self._modules.find(target) if bound == base.id else None
                    if own is not None and name is not None:
                        inner = Parsed(own)
                        return self._has_hook(inner, ast.Name(name), (*seen, base.id))
        return False


def _at_import(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run at import: not those of a script or of a type checker alone."""
    for statement in statements:
        if isinstance(statement, ast.If):
            if _is_script_test(statement.test):
                yield from _at_import(statement.orelse)
                continue
            name = _chain(statement.test)
            if name and name[-1] == "TYPE_CHECKING":
                yield from _at_import(statement.orelse)
                continue
        yield statement


def _is_plain_import(statement: ast.stmt) -> TypeGuard[ast.Import | ast.ImportFrom]:
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


def _targets(
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


def _chains(node: ast.AST) -> Iterator[list[str]]:
    """Yield every name with the attributes that are read of it: `[torch, nn, Linear]`."""
    stack: list[ast.AST] = [node]
    while stack:
        current = stack.pop()
        if chain := _chain(current):
            yield chain
            continue
        stack.extend(ast.iter_child_nodes(current))


def _chain(node: ast.AST) -> list[str] | None:
    """Return a name and its attributes; None for another expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return [node.id, *reversed(attributes)]
    return None


def _bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds when it runs."""
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    names = set()
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, _DEFINITIONS):
            names.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        stack.extend(ast.iter_child_nodes(node))
    return names


def _calls(node: ast.AST) -> bool:
    """Check whether code outside the bodies of functions calls something or awaits it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    if isinstance(node, ast.Call | ast.Await | ast.Yield | ast.YieldFrom):
        return True
    return any(map(_calls, ast.iter_child_nodes(node)))


def _is_plain_decorator(node: ast.expr) -> bool:
    chain = _chain(node.func if isinstance(node, ast.Call) else node)
    return chain is not None and chain[-1] in _PLAIN_DECORATORS
