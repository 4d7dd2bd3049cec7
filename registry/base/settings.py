"""Settings from environment variables."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from registry.base.names import maybe_user_path, user_path
from registry.errors import CacheError, ConfigError, warn

__all__ = ["cache_folders", "is_off", "is_offline", "is_set"]


_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes.

    Raises:
        ConfigError: when it says neither yes nor no.
    """
    return _answer(variable) is True


def is_off(variable: str) -> bool:
    """Whether an environment variable says no; raises as `is_set`."""
    return _answer(variable) is False


def _answer(variable: str) -> bool | None:
    written = os.environ.get(variable, "")
    if (text := written.strip().lower()) in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text:
        raise ConfigError(
            f"{variable} is expected to be 1, true, yes or on, or 0, false, no or off, but is {written!r}; correct or unset it"
        )
    return None


def is_offline(offline: bool | None = None) -> bool:
    """Whether the network is off: by argument, else by `REGISTRY_OFFLINE` or `HF_HUB_OFFLINE`."""
    return offline if offline is not None else is_set("REGISTRY_OFFLINE") or is_set("HF_HUB_OFFLINE")


_LEAF = "pytorch_pretrained_bert"


def cache_folders(cache_dir: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """Return the cache folders: the first is written, the others are read-only tiers.

    The environment is read at each call. The first that is set decides: `cache_dir`, `REGISTRY_CACHE` (a path list),
    `PYTORCH_PRETRAINED_BERT_CACHE`, `TORCH_HOME`, `XDG_CACHE_HOME`, else `~/.cache/torch/pytorch_pretrained_bert`.
    Without a home folder that is a private folder below the temporary one, with a warning.
    """
    if cache_dir:
        return (_full(cache_dir),)
    if listed := [part for part in os.environ.get("REGISTRY_CACHE", "").split(os.pathsep) if part]:
        return tuple(_full(part) for part in listed)
    if own := os.environ.get("PYTORCH_PRETRAINED_BERT_CACHE"):
        return (_full(own),)
    if torch_home := os.environ.get("TORCH_HOME"):
        return (_full(torch_home) / _LEAF,)
    if cache_home := os.environ.get("XDG_CACHE_HOME"):
        return (_full(cache_home) / "torch" / _LEAF,)
    home = maybe_user_path("~/.cache")
    return ((home.absolute() / "torch" if home is not None else _private_folder()) / _LEAF,)


def _private_folder() -> Path:
    """Return a folder below the temporary one that belongs to this user alone, for one without a home folder.

    Raises:
        CacheError: when it cannot be made, or somebody else has made it or may write to it.
    """
    import stat
    import tempfile

    user = os.geteuid() if hasattr(os, "geteuid") else "user"
    path, reason = Path(f"registry-{user}"), ""
    try:
        path = Path(tempfile.gettempdir()).absolute() / path
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != user or stat.S_IMODE(status.st_mode) & 0o077:
            reason = "it is another user's, or others may use it"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise CacheError(
            f"cache folder {path} is expected to be this user's alone, but is not ({reason}); it stands in for a home folder, "
            "which is not known. Set REGISTRY_CACHE to a folder, or HOME",
            path=str(path),
        )
    _tell(path)
    return path


@functools.cache
def _tell(path: Path) -> None:
    warn(f"the home folder of this user is not known, so files are kept in {path}; set REGISTRY_CACHE to a folder that stays")


def _full(path: str | os.PathLike[str]) -> Path:
    return user_path(path).absolute()
