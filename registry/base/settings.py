"""Settings from environment variables."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from registry.base.names import maybe_user_path, user_path
from registry.errors import CacheError, ConfigError, warn

__all__ = ["SETTINGS", "cache_folders", "is_off", "is_offline", "is_set"]

#: Every environment variable that is read: names, how a value is read, the default, and what it sets. doctor and
#: docs/settings.md show this table; it is plain tuples because every import of this module pays for it.
SETTINGS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (
        ("REGISTRY_CACHE",),
        "paths",
        "the next row that is set",
        "Cache folders. The first is written; the others are read-only tiers.",
    ),
    (("PYTORCH_PRETRAINED_BERT_CACHE",), "path", "", "The cache folder, under the name that the first library gave it."),
    (
        ("TORCH_HOME",),
        "path",
        "`torch` in `XDG_CACHE_HOME`",
        "Folder of torch, which holds the cache as `pytorch_pretrained_bert`.",
    ),
    (("XDG_CACHE_HOME",), "path", "`~/.cache`", "Folder in which programs keep their caches."),
    (("HOME",), "path", "of the user", "Home folder, which `~` stands for."),
    (("REGISTRY_MODELS",), "paths", "", "More catalogs. The first has the highest priority."),
    (
        ("REGISTRY_SYSTEM_MODELS",),
        "path",
        "`/etc/registry/models.yaml`",
        "The system's catalog; empty for none.",
    ),
    (("XDG_CONFIG_DIRS",), "paths", "`/etc/xdg`", "Folders in which `registry/models.yaml` is a catalog of the system."),
    (("XDG_CONFIG_HOME",), "path", "`~/.config`", "Folder in which `registry/models.yaml` is the user's catalog."),
    (
        ("REGISTRY_LOCKED",),
        "yes, no or `exact`",
        "no",
        "Use models only as the lock file pins them; `exact`: with the same plugin versions, too.",
    ),
    (("REGISTRY_LOCK_FILE",), "path", "`models.lock` beside `models.yaml`", "The lock file."),
    (("REGISTRY_OFFLINE", "HF_HUB_OFFLINE"), "yes or no", "no", "Open no connection."),
    (("REGISTRY_REQUIRE_PINS",), "yes or no", "no", "Refuse files that no pin and no hub hash vouches for."),
    (("REGISTRY_ADOPT",), "yes or no", "yes", "Use files that other libraries have downloaded to this machine."),
    (("REGISTRY_RETRIES",), "count", "4", "Retries of a source that sends nothing; 0 turns them off."),
    (
        ("REGISTRY_PARALLEL",),
        "count",
        "up to 8, when one connection is slow",
        "Parts of one large file to download at the same time, 1 to 64; 1 turns it off.",
    ),
    (("REGISTRY_LOCK_TIMEOUT",), "seconds", "3600", "Time to wait for a lock that another process holds."),
    (("REGISTRY_RANK_TIMEOUT",), "seconds", "1800", "Time that the ranks of one `mesh=` wait for each other."),
    (("REGISTRY_CONVERT",), "yes or no", "yes", "Keep the safetensors form of pickles in the cache."),
    (("REGISTRY_MMAP",), "yes or no", "yes", "Map weights into memory; `0` reads them, for network file systems."),
    (("REGISTRY_QUIET",), "yes or no", "no", "Show no progress."),
    (("RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"), "count", "0", "Only rank 0 shows progress."),
    (("REGISTRY_PLUGINS_DISABLED",), "names", "", "Families or distributions to leave out, separated by commas."),
    (("HF_ENDPOINT",), "URL", "`https://huggingface.co`", "Address of the hub."),
    (("HF_TOKEN",), "secret", "the token that the hub's login stored", "Token that is sent to the hub only."),
    (("HF_HUB_DISABLE_IMPLICIT_TOKEN",), "yes or no", "no", "Do not send the token that the hub's login stored."),
    (("HF_TOKEN_PATH",), "path", "`token` in `HF_HOME`", "File in which the hub's login stored its token."),
    (("HF_HOME",), "path", "`huggingface` in `XDG_CACHE_HOME`", "Folder of the hub's own library."),
    (
        ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
        "path",
        "`hub` in `HF_HOME`",
        "Cache of the hub's own library, from which files are adopted.",
    ),
    (
        ("PYTORCH_TRANSFORMERS_CACHE", "TRANSFORMERS_CACHE"),
        "path",
        "",
        "Caches of older libraries, from which files are adopted.",
    ),
    (
        ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        "URL",
        "",
        "Proxies, and the hosts that are reached without one.",
    ),
    (("NETRC",), "path", "`~/.netrc`", "File of user names and passwords by host."),
    (
        ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
        "path",
        "the certificates of certifi",
        "Certificates to trust; the first that is set counts.",
    ),
    (("AWS_CA_BUNDLE",), "path", "", "Certificates to trust for `s3://`, before those."),
    (
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "URL",
        "of AWS",
        "Address of the object store behind `s3://`.",
    ),
    (
        (
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"),
            *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ),
        "secret",
        "",
        "Credentials for `s3://`, which obstore reads; without one of them requests are not signed.",
    ),
    (("GOOGLE_BASE_URL",), "URL", "of Google", "Address of the object store behind `gs://`."),
    (
        (
            *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"),
            *("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BEARER_TOKEN", "GOOGLE_SKIP_SIGNATURE"),
        ),
        "secret",
        "those of `gcloud auth application-default login`",
        "Credentials for `gs://`, which obstore reads; without one of them requests are not signed.",
    ),
    (("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"), "URL", "of Azure", "Address of the object store behind `az://`."),
    (("AZURE_STORAGE_ACCOUNT_NAME",), "text", "", "Account that `az://` containers belong to."),
    (
        (
            *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY", "AZURE_STORAGE_SAS_KEY"),
            *("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN", "AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID"),
            *("AZURE_FEDERATED_TOKEN_FILE", "AZURE_IDENTITY_ENDPOINT", "AZURE_MSI_ENDPOINT", "AZURE_USE_AZURE_CLI"),
            *("AZURE_STORAGE_USE_EMULATOR", "AZURE_SKIP_SIGNATURE"),
        ),
        "secret",
        "",
        "Credentials for `az://`, which obstore reads; without one of them requests are not signed.",
    ),
    (("COLUMNS",), "count", "of the terminal", "Width of the command line's output."),
    (("NO_COLOR",), "any text", "", "Print no bold text on the command line."),
)

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def is_set(variable: str) -> bool:
    """Return True if an environment variable says yes.

    Raises:
        ConfigError: when it says neither yes nor no.
    """
    return _answer(variable) is True


def is_off(variable: str) -> bool:
    """Return True if an environment variable says no; raises as `is_set`."""
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
    """Return True if the network is off: by argument, else by `REGISTRY_OFFLINE` or `HF_HUB_OFFLINE`."""
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
    """Return a folder below the temporary one that only this user may use, for a user without a home folder.

    Raises:
        CacheError: when it cannot be created, or another user created it or may write to it.
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
