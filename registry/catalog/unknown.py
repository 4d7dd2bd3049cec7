"""What to say of a name that no catalog has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from registry.errors import CatalogError, UnknownModel

__all__ = ["close_names", "unknown_model"]


def close_names(name: str, names: Iterable[str], count: int) -> list[str]:
    """Return the names that look most like `name`, in whatever case."""
    import difflib

    folded = {known.casefold(): known for known in sorted(names)}
    return [folded[key] for key in difflib.get_close_matches(name.casefold(), folded, n=count, cutoff=0.7)]


def unknown_model(name: str, names: Iterable[str], problems: Sequence[CatalogError], packed: Path | None) -> UnknownModel:
    """Return the error for a name: which package brought it once, which names are close, and which files are not usable.

    Args:
        name: the name.
        names: those that there are.
        problems: of whole files.
        packed: the folder of packed catalogs, where it is remembered what packages brought.
    """
    message = f"model {name!r} is expected to be a name of the catalog or an existing path, but is neither"
    close: list[str] = []
    distribution = None
    if packed is not None and (provider := _provider(packed, name)) is not None:
        distribution, why = provider
        message += why
    else:
        close = close_names(name, names, 3)
        if close:
            message += f"; did you mean {' or '.join(repr(found) for found in close)}?"
        elif re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
            message += f"; for a repository of the model hub write 'hf://{name}@<revision>' and family="
        else:
            message += "; `registry list` shows the names"
    if problems:
        message += ". These catalogs could not be used in full: " + "; ".join(str(problem) for problem in problems)
    return UnknownModel(message, name=name, suggestions=close, distribution=distribution)


def _provider(packed: Path, name: str) -> tuple[str, str] | None:
    """Return the distribution that brought a name and what to do to have it again, or None."""
    from importlib import metadata

    from registry.catalog.remembered import remembered

    if (found := remembered(packed, name)) is None:
        return None
    distribution, version = found
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return distribution, (
            f"; it was provided by {distribution} {version}, which is not installed; pip install {distribution}"
        )
    if os.environ.get("REGISTRY_PLUGINS_DISABLED"):
        return distribution, f"; it was provided by {distribution} {version}; take that out of REGISTRY_PLUGINS_DISABLED"
    return None
