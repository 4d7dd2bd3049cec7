"""What of a lock file is not as it was locked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from registry.lockfile.format import LockFile, facts_of

__all__ = ["Difference", "differences"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that is not as locked.

    `model` is empty for a fact of the lock file itself, `file` for one of a model, and `fact` where all of it came or went.
    """

    model: str
    file: str
    fact: str
    #: None where it is new.
    locked: str | None
    #: None where it is gone.
    found: str | None

    @property
    def change(self) -> str:
        """Return `added`, `removed` or `changed`."""
        return "added" if self.locked is None else "removed" if self.found is None else "changed"


def differences(locked: LockFile | None, found: LockFile) -> list[Difference]:
    """Return what of a lock file is not as it was found, in the order of the file; a new or a lost model is one difference."""
    if locked is None:
        locked = replace(found, models={}, aliases={})
    result = _compared("", "", {"registry": locked.registry}, {"registry": found.registry})
    for name in sorted({*locked.aliases, *found.aliases}):
        before, after = locked.aliases.get(name), found.aliases.get(name)
        if before != after:
            result.append(Difference(name, "", "alias", before, after))
    for name in sorted({*locked.models, *found.models}):
        old, new = locked.models.get(name), found.models.get(name)
        if old is None or new is None:
            result.append(Difference(name, "", "", old.source if old else None, new.source if new else None))
            continue
        result += _compared(name, "", facts_of(old), facts_of(new))
        for file in sorted({*old.files, *new.files}):
            was, now = old.files.get(file), new.files.get(file)
            if was is None or now is None:
                result.append(Difference(name, file, "", was.sha256 if was else None, now.sha256 if now else None))
            else:
                result += _compared(name, file, facts_of(was), facts_of(now))
    return result


def _compared(model: str, file: str, old: Mapping[str, object], new: Mapping[str, object]) -> list[Difference]:
    return [
        Difference(model, file, fact, _shown(old.get(fact)), _shown(new.get(fact)))
        for fact in dict.fromkeys((*old, *new))
        if old.get(fact) != new.get(fact)
    ]


def _shown(value: object) -> str | None:
    return None if value is None else str(value)
