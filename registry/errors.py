"""Every public exception of the library.

A message follows one grammar: *what of what* is expected to be A, but is B; then what to do about it. Each class has a
stable code that users can search for, and carries its data as attributes, so that no program needs to parse a message.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable
from types import FrameType

__all__ = [
    "CacheError",
    "CatalogError",
    "CheckpointError",
    "ConfigError",
    "DistributedError",
    "DownloadError",
    "IntegrityError",
    "LockTimeout",
    "OfflineError",
    "PluginConflict",
    "PluginError",
    "RegistryError",
    "RegistryWarning",
    "UnknownFamily",
    "UnknownHead",
    "UnknownModel",
    "UnsafeCheckpoint",
]

#: What Python takes for printable and nothing shows: fillers, joiners and selectors of a form (the property
#: Default_Ignorable_Code_Point of Unicode); not U+FE0F, which makes a sign an emoji.
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        *((0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164)),
        *((0xFE00, 0xFE0E), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF)),
    )
    for code in range(first, last + 1)
)
#: Ends of lines, and blanks of other widths than a space's.
_KEPT = frozenset("\n\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")

#: The top-level packages through which a call comes here without being the caller's own code.
_BETWEEN = ("_frozen_importlib", "concurrent", "contextlib", "functools", "importlib", "pluggy", "threading")


def _rebuild(cls: type[RegistryError], args: tuple[object, ...], state: dict[str, object]) -> RegistryError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class RegistryWarning(UserWarning):
    """Something was ignored or decided that the user may want to change."""


def warn(message: str, frame: FrameType | None = None) -> None:
    """Warn with a `RegistryWarning` that points at the caller's line: the innermost outside this library and its plugins.

    A fixed `stacklevel` is wrong for all but one of the ways to a function. `frame` is where to begin, by default here.
    """
    outside: FrameType | None = None
    frame = first = frame or sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package != "registry" and not package.startswith("registry_"):
            outside = outside or frame
            if package not in _BETWEEN:
                break
        frame = frame.f_back
    caller = frame or outside or first
    # A standard error that somebody closed or replaced is no reason to fail.
    with contextlib.suppress(AttributeError, ValueError):
        warnings.warn_explicit(
            escaped(message),
            RegistryWarning,
            caller.f_code.co_filename,
            caller.f_lineno,
            module=str(caller.f_globals.get("__name__")),
            registry=caller.f_globals.setdefault("__warningregistry__", {}),
        )


def escaped(text: str) -> str:
    """Return text with what shows nothing or moves other text as escapes; ends of lines stay.

    That are controls, zero-width and bidirectional characters, separators of lines, and halves of surrogate pairs.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _shows(each) else each.encode("unicode_escape").decode() for each in text)


def _shows(character: str) -> bool:
    return (character.isprintable() and character not in _INVISIBLE) or character in _KEPT


def text_of(value: object, form: Callable[[object], str] = repr) -> str:
    """Return the text of an object of a plugin, whose own code may raise."""
    try:
        return str.__str__(form(value))  # a subclass of str has methods of its own, too
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"({_kind(value)} that cannot be shown: {form.__name__}() raises {_kind(error)})"


def said(error: BaseException) -> str:
    """Return the type and the text of an exception that a plugin raised."""
    return f"{_kind(error)}: {text_of(error, str)}"


def _kind(value: object) -> str:
    name: str = type.__dict__["__name__"].__get__(type(value))  # whatever a metaclass says
    return name


class RegistryError(Exception):
    """The base of every error that this library raises on purpose."""

    #: Stable, searchable, never reused for another meaning.
    code = "R100"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"[{self.code}] {escaped(self.message)}"

    def __reduce__(self) -> tuple[object, ...]:
        # Subclasses take keyword arguments, which the default protocol would lose between processes.
        return _rebuild, (type(self), self.args, self.__dict__)


class UnknownModel(RegistryError, LookupError):
    """No catalog entry, file or folder has this name; `distribution` is the package to install, where one had it before."""

    code = "R101"

    def __init__(self, message: str, *, name: str, suggestions: Iterable[str] = (), distribution: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.suggestions = tuple(suggestions)
        self.distribution = distribution


class UnknownFamily(RegistryError, LookupError):
    """No installed plugin provides this family."""

    code = "R102"

    def __init__(self, message: str, *, family: str, known: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.family = family
        self.known = tuple(known)


class UnknownHead(RegistryError, LookupError):
    """The family has no head of this name."""

    code = "R103"

    def __init__(self, message: str, *, head: str, known: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.head = head
        self.known = tuple(known)


class CatalogError(RegistryError, ValueError):
    """A models.yaml breaks the schema; `file`, `line` and `column` (both from 1) say where."""

    code = "R201"

    def __init__(self, message: str, *, file: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{file}:{line}:{column}: {message}")
        self.problem = message
        self.file = file
        self.line = line
        self.column = column


class PluginError(RegistryError):
    """A plugin failed to import, breaks the contract, or speaks a newer version of it."""

    code = "R301"

    def __init__(self, message: str, *, family: str, distribution: str | None = None) -> None:
        super().__init__(message)
        self.family = family
        self.distribution = distribution


class PluginConflict(PluginError):
    """Two distributions provide one family."""

    code = "R302"


class DownloadError(RegistryError):
    """A remote file could not be read; `status` is the HTTP status where there is one."""

    code = "R401"

    def __init__(self, message: str, *, url: str, status: int | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.status = status


class IntegrityError(RegistryError):
    """Bytes are not the bytes that were expected."""

    code = "R402"

    def __init__(self, message: str, *, url: str, expected: str, actual: str) -> None:
        super().__init__(message)
        self.url = url
        self.expected = expected
        self.actual = actual


class OfflineError(RegistryError):
    """The network is switched off and the file is not in the cache."""

    code = "R403"

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(message)
        self.url = url


class LockTimeout(RegistryError, TimeoutError):
    """Another process held the lock of a cache file for too long."""

    code = "R404"

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class CacheError(RegistryError):
    """The cache folder cannot be read or written."""

    code = "R405"

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class CheckpointError(RegistryError):
    """A weights file cannot be read, or does not fit the model."""

    code = "R501"

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class UnsafeCheckpoint(CheckpointError):
    """A pickle asks for code; `globals` names what it would call. Nothing was run."""

    code = "R502"

    def __init__(self, message: str, *, path: str, globals: Iterable[str] = ()) -> None:
        super().__init__(message, path=path)
        self.globals = tuple(globals)


class ConfigError(RegistryError, ValueError):
    """A configuration value, or an argument that becomes one, is wrong."""

    code = "R601"


class DistributedError(RegistryError):
    """What several ranks do together cannot go on, because of those in `ranks`; empty where nobody knows which."""

    code = "R701"

    def __init__(self, message: str, *, ranks: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.ranks = tuple(ranks)
