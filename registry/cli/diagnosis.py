"""The checks of `registry doctor`, one function per section. Each returns facts, and problems with advice."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from registry.base.file_lock import lock_timeout
from registry.base.settings import SETTINGS, cache_folders, is_set
from registry.base.urls import is_url, redact
from registry.catalog.layers import CatalogSource, LayerKind, places, read_source
from registry.errors import ConfigError, RegistryError, RegistryWarning
from registry.lockfile.hold import lock_mode
from registry.model_registry import ModelRegistry
from registry.store.download import parallelism, tries

__all__ = ["Problem", "Section", "cache", "catalogs", "environment", "imports", "plugins", "settings"]

_NAMES = [name for names, *_ in SETTINGS for name in names]
_OWN = [name for name in _NAMES if name.startswith("REGISTRY_")]
_ANSWERS = [name for names, kind, *_ in SETTINGS if kind == "yes or no" for name in names]
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "KEY", "CREDENTIAL")
#: Seconds of import time after which a plugin module gets a remark.
_SLOW = 0.5
_IMPORT_LIMIT = 120
_SCARCE = 1 << 30


@dataclass(frozen=True)
class Problem:
    """A problem and how to solve it."""

    what: str
    fix: str


@dataclass
class Section:
    """One part of the report: facts by name, remarks, and problems."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, what: str, fix: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(what, fix))


def environment() -> Section:
    """Check Python, the platform and the required packages."""
    section = Section("environment")
    section.facts["python"] = f"{platform.python_version()} ({sys.executable})"
    section.facts["platform"] = platform.platform()
    section.facts["pretrained-registry"] = _version("pretrained-registry") or "not installed"
    if _version("pretrained-registry") is None:
        section.wrong("pretrained-registry is not installed, so no family is found", "pip install pretrained-registry")
        return section
    for requirement in metadata.requires("pretrained-registry") or ():
        if "extra ==" in requirement:
            continue
        name = requirement.split(";")[0].strip()
        end = next((at for at, letter in enumerate(name) if letter in "<>=!~ ["), len(name))
        version = _version(name[:end])
        section.facts[name[:end]] = version or "missing"
        if version is None:
            section.wrong(f"{name[:end]} is not installed", f"pip install '{name}'")
        elif not _satisfies(version, name[end:]):
            section.wrong(f"{name[:end]} {version} is installed, but {name[end:]} is needed", f"pip install -U '{name}'")
    return section


def cache(cache_dir: str | None) -> Section:
    """Check the cache folders: existence, write access, space, links and locks."""
    section = Section("cache")
    for number, root in enumerate(cache_folders(cache_dir)):
        found: dict[str, Any] = {"tier": number > 0, "exists": root.is_dir()}
        section.facts[str(root)] = found
        there = next((folder for folder in (root, *root.parents) if folder.exists()), root)
        found["file system"] = _file_system(there)
        if root.exists() and not root.is_dir():
            section.wrong(f"{root} is expected to be a folder, but is not", "remove it, or set REGISTRY_CACHE")
            continue
        if number:
            if not found["exists"]:
                section.remarks.append(f"the read-only tier {root} is not there")
            continue
        free = shutil.disk_usage(there).free
        found["free bytes"] = free
        if free < _SCARCE:
            section.wrong(
                f"{root} has only {free:,} bytes free", "`registry cache prune`, or set REGISTRY_CACHE to another folder"
            )
        try:
            with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as folder:
                found |= {"writable": True, "hard links": _links(Path(folder)), "locks": _locks(Path(folder))}
        except OSError as error:
            found["writable"] = False
            section.wrong(
                f"{there} cannot be written ({error.strerror or error})",
                "mend its permissions, or set REGISTRY_CACHE to another",
            )
        if found.get("hard links") is False:
            section.remarks.append("without hard links, `registry fetch` copies large files")
        if found.get("locks") is False:
            section.remarks.append("without locks, processes may download the same file twice; nothing else depends on them")
    return section


def catalogs(registry: ModelRegistry) -> Section:
    """Check every possible place of a catalog."""
    section = Section("catalogs")
    located: list[CatalogSource] = []
    with _warnings(section):
        located = registry.catalog_sources()
    rows: list[dict[str, Any]] = []
    for source in located:
        file = read_source(source)
        rows.append(_place(source.kind, source.path) | {"found": True, "names": len(file.entries), "by": source.distribution})
        for error in (*file.problems, *file.broken.values()):
            section.wrong(str(error), "mend that place; `registry validate` checks it")
    known = {row["path"] for row in rows}
    rows += [_place(kind, str(path)) | {"found": False} for kind, path in places() if str(path) not in known]
    if not any(row["layer"] == "project" for row in rows):
        rows.append(_place(LayerKind.PROJECT, f"models.yaml from {Path.cwd()} upward") | {"found": False})
    section.facts["places"] = sorted(rows, key=lambda row: int(LayerKind[row["layer"].upper()]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report below contains the same
        try:
            merged = registry.catalog
            told = {problem.what for problem in section.problems}
            for error in (*merged.problems, *merged.broken.values()):
                if str(error) not in told:
                    section.wrong(str(error), "mend that place")
            section.facts["usable names"] = len(merged.names())
            section.facts["hosts"] = [
                {"host": host.name, "token_env": host.token_env, "set": _is_there(host.token_env), "place": str(host.origin)}
                for host in merged.hosts.values()
            ]
            for host in merged.hosts.values():
                if host.token_env and not _is_there(host.token_env):
                    section.remarks.append(f"{host.token_env}, the token of {host.name}, is not set ({host.origin})")
        except RegistryError as error:
            section.wrong(str(error), "mend that place")
    return section


def plugins() -> Section:
    """Check all plugins in a separate process, because a plugin may end the process."""
    section = Section("plugins")
    done = _run("from registry.cli import main; sys.argv = ['registry', 'plugins', '--json']; main()")
    try:
        reports = json.JSONDecoder().raw_decode(done.stdout)[0] if done else None
    except ValueError:
        reports = None
    if reports is None:
        ended = "did not end in time" if done is None else f"ended with {done.returncode} and no report"
        section.wrong(f"looking at the plugins {ended}", "see under `imports` which plugin it is, and uninstall it")
        return section
    for report in reports:
        who = f"{report['name']} of {report['distribution']} {report['version']}".rstrip()
        section.facts[who] = report["state"]
        section.remarks += [f"{who}: {note}" for note in report["notes"] if report["state"] != "conflict"]
        if report["state"] == "conflict":
            section.wrong(f"{who}: {' '.join(report['notes'])}", "choose one, as it says")
        elif report["state"] == "broken":
            section.wrong(
                f"{who}: {report['error']['message']}", f"mend or uninstall {report['distribution']}; `registry plugins -v`"
            )
    return section


def imports() -> Section:
    """Measure import times in fresh processes: of the package, and of each plugin module after it."""
    from registry.families.discovery import FAMILIES, HOOKS, TRANSPORTS, entry_points

    section = Section("imports")
    points = [point for group in (FAMILIES, HOOKS, TRANSPORTS) for point in entry_points(group)]
    modules = {point.module: point.release for point in points}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = dict(zip(["registry", *modules], pool.map(_import_time, ["registry", *modules]), strict=True))
    for module, (seconds, heavy, failure) in results.items():
        section.facts[module] = None if seconds is None else f"{seconds * 1000:.0f} ms"
        who = f"{module} of {modules.get(module, 'this package')}"
        if failure:
            section.wrong(f"{who} {failure}", "uninstall what it belongs to, or mend it")
        elif heavy:
            section.remarks.append(f"{who} imports torch, which makes every command that uses it slow")
        elif seconds is not None and seconds > _SLOW:
            section.remarks.append(f"{who} takes {seconds:.1f} s to import")
    return section


def settings() -> Section:
    """List the environment variables in use. Values that may contain a secret are not shown."""
    section = Section("settings")
    for name in _NAMES:
        if name in os.environ:
            section.facts[name] = _shown(name, os.environ[name])
    for name in sorted(os.environ):
        # Other programs use this prefix, too.
        if name.startswith("REGISTRY_") and name not in _NAMES and (close := get_close_matches(name, _OWN, n=1, cutoff=0.85)):
            section.wrong(f"{name} is no setting", f"did you mean {close[0]}?")
    for check in _checks():
        try:
            check()
        except ConfigError as error:
            section.wrong(error.message, "until then, what needs it fails")
    return section


def _checks() -> Iterator[Callable[[], object]]:
    """Yield functions that raise ConfigError if a boolean or numeric variable has an invalid value."""
    yield from (partial(is_set, name) for name in _ANSWERS)
    yield from (partial(lock_mode, None), lock_timeout, tries, partial(parallelism, None))
    if "REGISTRY_RANK_TIMEOUT" in os.environ:
        from registry.sharding.ranks import rank_timeout  # with torch

        yield rank_timeout


# ------------------------------------------------------------------------------------------------------------------------


def _shown(name: str, value: str) -> str:
    """Return the value of a variable without secrets."""
    if any(part in name.upper() for part in _SECRET):
        return "(set, not shown)" if value else ""
    if name.lower().endswith("_proxy") and not is_url(value):
        return value.rpartition("@")[2]
    return redact(value) if is_url(value) else value


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _satisfies(version: str, wanted: str) -> bool:
    """Whether a version is within `>=` and `<` bounds. Other operators are ignored."""
    for bound in filter(None, (part.strip() for part in wanted.split(","))):
        number = bound.lstrip("<>=!~ ")
        if bound.startswith(">=") and _numbers(version) < _numbers(number):
            return False
        if bound.startswith("<") and not bound.startswith("<=") and _numbers(version) >= _numbers(number):
            return False
    return True


def _numbers(version: str) -> list[int]:
    parts = []
    for part in version.split("+")[0].split("."):
        digits = "".join(letter for letter in part if letter.isdigit())
        if not part.isdigit():
            break
        parts.append(int(digits))
    while parts and parts[-1] == 0:
        parts.pop()
    return parts


def _is_there(variable: str | None) -> bool:
    return bool(os.environ.get(variable or "", "").strip())


def _place(kind: LayerKind, path: str) -> dict[str, Any]:
    return {"layer": kind.name.lower(), "path": path}


def _file_system(path: Path) -> str:
    """Return the type of a path's file system, if the system reports it."""
    best, kind = "", ""
    try:
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mounted, found, *_ = line.split()
            if path.resolve().is_relative_to(mounted) and len(mounted) >= len(best):
                best, kind = mounted, found
    except (OSError, ValueError):
        return ""
    return kind


def _links(folder: Path) -> bool:
    (folder / "one").write_bytes(b"")
    try:
        os.link(folder / "one", folder / "two")
    except OSError:
        return False
    return True


def _locks(folder: Path) -> bool | None:
    """Whether file locks exclude each other here; None if this cannot be tested."""
    try:
        import fcntl
    except ImportError:
        return None
    with (folder / "lock").open("wb") as first, (folder / "lock").open("wb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


@contextmanager
def _warnings(section: Section) -> Iterator[None]:
    """Turn warnings into remarks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RegistryWarning)
        yield
    section.remarks += [str(warning.message) for warning in caught if issubclass(warning.category, RegistryWarning)]


def _run(code: str) -> subprocess.CompletedProcess[str] | None:
    """Run code in a fresh interpreter with the same path; None when it does not end."""
    program = f"import sys; sys.path[:] = {sys.path!r}\n{code}"
    try:
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=_IMPORT_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def _import_time(module: str) -> tuple[float | None, bool, str]:
    """Return an import's seconds, whether it imports torch, and the reason if the process ended early."""
    before = "" if module == "registry" else "import registry.families.hookspecs\n"
    code = (
        f"{before}import time, importlib, os\nout = os.dup(1)\nbegan = time.perf_counter()\n"
        f"try:\n    importlib.import_module({module!r})\nexcept BaseException:\n    pass\n"
        "os.write(out, f'\\n{time.perf_counter() - began} {\"torch\" in sys.modules}\\n'.encode())\n"
        "os._exit(0)"  # skips output at exit
    )
    if (done := _run(code)) is None:
        return None, False, f"is not imported after {_IMPORT_LIMIT} s"
    try:
        seconds, heavy = done.stdout.splitlines()[-1].split()
        return float(seconds), heavy == "True", ""
    except (IndexError, ValueError):
        return None, False, f"ends the process that imports it ({done.returncode})"
