"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

__all__ = ["lazy_names"]


def lazy_names(package: str, names: Collection[str], homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a `__getattr__` for a package whose names live in its modules.

    Args:
        package: the `__name__` of the package.
        names: its `__all__`.
        homes: name to the module that defines it, relative to the package; `modeling` for a name that is not listed.
    """

    def load(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{package}.{homes.get(name, 'modeling')}"), name)

    return load
