"""The protocol's modules as one value, so that a run can be made with a mended or a broken copy of them.

:func:`installed` is the code as it stands. :func:`patched` loads fresh copies of ``veritydb.vsr`` and
``veritydb.kernel`` of which one text is replaced by another: that is how bugs are planted
(:mod:`veritydb.simulation.planted`), and why production code needs no switch for it. A run gets
everything that belongs to the protocol from here, since the classes of one copy are not those of another.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PACKAGES = ("veritydb.vsr", "veritydb.kernel")


class Code(NamedTuple):
    """Modules of one copy."""

    core: Any
    effects: Any
    entry: Any
    messages: Any
    options: Any
    quorums: Any
    recovery: Any
    replica: Any
    superblock: Any
    kernel: Any
    wire: Any


class Replacement(NamedTuple):
    """One text of a module that becomes another."""

    module: str
    """As it is imported."""
    old: str
    new: str


class NotThere(Exception):
    """The text to be replaced is not in the module exactly once, so the replacement would prove nothing."""


@cache
def installed() -> Code:
    """Return the code as it is."""
    return _collect()


def patched(replacements: Sequence[Replacement]) -> Code:
    """Return a fresh copy with these texts replaced. Raises NotThere."""
    texts: dict[str, str] = {}
    for replacement in replacements:
        text = texts.get(replacement.module) or source_of(replacement.module)
        count = text.count(replacement.old)
        if count != 1:
            raise NotThere(f"{replacement.module} has {count} times: {replacement.old!r}")
        texts[replacement.module] = text.replace(replacement.old, replacement.new)
    ours = {name: module for name, module in sys.modules.items() if _is_ours(name)}
    finder = _Finder(texts)
    for name in ours:
        del sys.modules[name]
    for parent, child in _places():
        # ``from veritydb import kernel`` takes what the package already has, and looks no further.
        vars(sys.modules[parent]).pop(child, None)
    sys.meta_path.insert(0, finder)
    try:
        return _collect()
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(ours)
        for parent, child in _places():
            vars(sys.modules[parent]).pop(child, None)
            if f"{parent}.{child}" in ours:
                setattr(sys.modules[parent], child, ours[f"{parent}.{child}"])


def _places() -> list[tuple[str, str]]:
    """Return where the packages are attributes: the package above, and their names in it."""
    return [(parent, child) for parent, _, child in (name.rpartition(".") for name in PACKAGES)]


def source_of(module: str) -> str:
    """Return the text of a module."""
    spec = importlib.util.find_spec(module)
    if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
        raise NotThere(f"{module} has no source")
    source = spec.loader.get_source(module)
    if source is None:
        raise NotThere(f"{module} has no source")
    return source


def _collect() -> Code:
    def load(name: str) -> ModuleType | None:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            return None

    return Code(
        **{name: load("veritydb.kernel" if name == "kernel" else f"veritydb.vsr.{name}") for name in Code._fields}
    )


def _is_ours(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in PACKAGES)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules whose text was replaced; all others are found as always."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a replaced module."""
        if fullname not in self._texts:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None:
            return None
        spec = importlib.util.spec_from_loader(
            fullname, self, origin=found.origin, is_package=found.submodule_search_locations is not None
        )
        if spec is not None and found.submodule_search_locations is not None:
            spec.submodule_search_locations = list(found.submodule_search_locations)
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Run the replaced text."""
        name = module.__name__
        exec(compile(self._texts[name], f"<planted in {name}>", "exec"), module.__dict__)
