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
from pathlib import Path

from grid.code.modules import Modules, OwnModule, hidden_text, own_file
from grid.code.normal_form import digest
from grid.code.parsed import Parsed, Target, bindings, parse
from grid.code.read_files import FILE, content_digest, named_files, reads
from grid.code.syntax import chains, import_targets, imported_by_text, resolved

# Names whose use can reach any definition of a file.
_REACH_FILE = frozenset({"globals", "locals", "eval", "exec", "compile", "vars"})
# Modules by whose functions code can reach any other: all of them, or those with these names.
_REACH_ANY: dict[str, frozenset[str] | None] = {
    "builtins": None,
    "gc": None,
    "importlib": None,
    "inspect": frozenset({"currentframe", "getmembers", "getmodule", "stack"}),
    "pkgutil": None,
    "pydoc": None,
    "sys": frozenset({"modules", "_getframe"}),
}
# Attributes that lead from an object to all of its module, or to all classes below a class.
_REACHING_ATTRIBUTES = frozenset({"__globals__", "f_globals", "__subclasses__"})


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
        # Module -> files that reached code names, by the literal; places of reads of other files.
        self._files: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        self._reads: dict[str, set[int]] = defaultdict(set)
        # True if the text does not tell which of all these modules is used.
        self._everything = False

    def add(self, module: str, name: str) -> bool:
        """Add what `module:name` reaches; return False if the module is not the user's own."""
        own = self._modules.find(module)
        if own is None:
            outermost = module.partition(".")[0]
            self.others.add(outermost)
            file = own_file(outermost, Path.cwd())
            if file and self._modules.find(outermost) is None:
                self.hidden.append(hidden_text(outermost, file))
            return False
        self._run(module)
        if not self._name(module, name):
            self._add_whole(module)
        while self._everything and (left := set(self._reached) - self._whole):
            for found in sorted(left):
                self._add_whole(found)
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
            for target, inner in parsed.imports[name]:
                yield f"{name} from {target} {inner or ''}"
        for text, files in sorted(self._files[module.name].items()):
            yield f"{FILE} {'+'.join(map(content_digest, files))} {text}"

    def unwatched(self) -> list[str]:
        """Return the places of reached code that reads a file whose path the code does not tell."""
        return [
            f"{module.path}:{min(self._reads[module.name])}"
            for module in self.modules()
            if self._reads[module.name] and not self._files[module.name]
        ]

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
        """Follow all that a name of a module may stand for."""
        parsed = self._parse(module)
        has = name in parsed.assigned
        if name in parsed.definitions:
            has = True
            self._reached[module.name].add(name)
            for definition in parsed.definitions[name]:
                self._scan(parsed, definition)
        if name in parsed.imports:
            has = True
            self._mentioned[module.name].add(name)
            for target in parsed.imports[name]:
                self._follow(*target, ())
        if not has and module.is_package and self._modules.find(f"{module.name}.{name}"):
            has = True
            self._run(f"{module.name}.{name}")
        # All of them: each may have it, and its `__all__` decides whether it gives it away.
        given = [self._name(star, name) for star in parsed.stars if name != "__all__"]
        for star in parsed.stars if any(given) else ():
            self._name(star, "__all__")
        return any([has, *given])

    def _scan(self, parsed: Parsed, node: ast.AST) -> None:
        """Follow every name that a piece of code mentions."""
        imports: dict[str, list[Target]] = defaultdict(list)
        for statement in ast.walk(node):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for bound, target in self._import(parsed.module, statement):
                    imports[bound].append(target)
            elif isinstance(statement, ast.Attribute) and statement.attr in _REACHING_ATTRIBUTES:
                self._everything = True
            elif isinstance(statement, ast.Call) and (named := imported_by_text(statement)):
                self._follow(resolved(parsed.module, named), None, ())
        self._note_files(parsed.module, node)
        for base, *attributes in chains(node):
            if base in _REACH_FILE:
                self._add_whole(parsed.module.name)
            if base == "__import__":
                self._reach_any(parsed.module)
            if base in parsed.imports:
                self._mentioned[parsed.module.name].add(base)
            targets = [*imports[base], *parsed.imports.get(base, ())]
            for module, name in targets:
                path = [*([name] if name else []), *attributes]
                names = _REACH_ANY.get(module.partition(".")[0], frozenset())
                if names is None or (names and (not path or path[0] in names)):
                    self._reach_any(parsed.module)
                self._follow(module, name, attributes)
            if not targets or base in parsed.definitions or base in parsed.assigned:
                self._name(parsed.module.name, base)

    def _note_files(self, module: OwnModule, node: ast.AST) -> None:
        """Note the files that a piece of code reads."""
        if module.file is None:
            return
        for text, file in named_files(node, [Path.cwd(), module.file.parent]):
            if file not in self._files[module.name][text]:
                self._files[module.name][text].append(file)
        self._reads[module.name].update(reads(node))

    def _reach_any(self, module: OwnModule) -> None:
        """Count all modules that are imported, and every module of a package."""
        self._everything = True
        self._add_package(module)

    def _follow(self, module: str, name: str | None, attributes: Iterable[str]) -> None:
        """Follow `module.name.attribute...`, as far as it leads through modules."""
        path = [*([name] if name else []), *attributes]
        own = self._modules.find(module)
        if own is None:
            return
        self._run(module)
        if not path:  # the module is handed on as an object
            for inner in [own, *(self._modules.within(own) if own.is_package else [])]:
                self._add_whole(inner.name)
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
            for target in parsed.imports[first]:
                self._follow(*target, rest)
            self._name(module, first)
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
    ) -> Iterator[tuple[str, Target]]:
        """Run the modules of an import statement; yield the names that it binds."""
        for _, target, name in import_targets(module, statement):
            outermost = target.partition(".")[0]
            if self._modules.find(outermost) is None:
                self.others.add(outermost)
                if file := own_file(outermost, module.root):
                    place = f"{module.path}:{statement.lineno} imports {outermost}, but "
                    self.hidden.append(place + hidden_text(outermost, file))
                continue
            self._run(target)
            own = self._modules.find(target)
            if name is not None and own is not None and not self._defines(own, name):
                self._run(f"{target}.{name}")
        yield from bindings(module, statement)

    def _parse(self, module: OwnModule) -> Parsed:
        if module.name not in self._parsed:
            self._parsed[module.name] = parse(self._modules, module)
        return self._parsed[module.name]
