"""Without a home folder: HOME is not set, and the system does not know the user. No folder is ever named `~`."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry
from registry.base import settings as paths
from registry.base.names import maybe_user_path, user_path
from registry.base.settings import cache_folders
from registry.catalog.layers import places
from registry.errors import CacheError, ConfigError, RegistryWarning
from registry.store.adopt.other_caches import hub_folders, hub_token, url_folders
from registry.store.transports.credentials import Credentials


@pytest.fixture(autouse=True)
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Take the home folder away; return the temporary folder."""

    def unknown(uid: int) -> object:
        raise KeyError(f"uid not found: {uid}")

    for name in (
        *("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "NETRC"),
        *("REGISTRY_CACHE", "PYTORCH_PRETRAINED_BERT_CACHE", "PYTORCH_TRANSFORMERS_CACHE"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    (temporary := tmp_path / "temporary").mkdir()
    work = tmp_path / "work"
    (work / "~").mkdir()  # what somebody else left in the working folder
    (work / "~" / ".netrc").write_text("default login me password hunter2\n")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    paths._tell.cache_clear()
    yield temporary
    assert sorted(path.name for path in work.rglob("*")) == [".git", ".netrc", "~"]


def test_the_cache_is_a_private_folder_and_a_warning_says_what_to_set(homeless: Path) -> None:
    with pytest.warns(RegistryWarning, match="REGISTRY_CACHE") as warned:
        folders = [cache_folders(), cache_folders()]
    assert len(warned) == 1 and folders[0] == folders[1]
    (private,) = homeless.iterdir()
    assert folders[0][0].parent == private and stat.S_IMODE(private.stat().st_mode) == 0o700


def test_what_says_where_the_cache_is_needs_no_home(homeless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folders(tmp_path / "own") == (tmp_path / "own",)
    for variable in ("XDG_CACHE_HOME", "TORCH_HOME", "REGISTRY_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert cache_folders()[0].is_relative_to(tmp_path / variable)
    assert not list(homeless.iterdir())


@pytest.mark.parametrize("how", ["for all", "a link", "a file", "another user's"])
def test_a_folder_that_others_may_use_is_refused(how: str, homeless: Path, tmp_path: Path) -> None:
    planted = homeless / f"registry-{os.geteuid()}"
    if how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        planted.symlink_to(tmp_path / "elsewhere")
    elif how == "a file":
        planted.touch()
    else:
        planted.mkdir(mode=0o700)
        if how == "for all":
            planted.chmod(0o777)
        elif os.geteuid() != 0:
            pytest.skip("only root can give a folder to another user")
        else:
            os.chown(planted, 65534, 65534)
    with pytest.raises(CacheError, match="REGISTRY_CACHE"):
        cache_folders()


def test_nothing_else_is_looked_for_in_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert url_folders() == hub_folders() == () and hub_token() == ""
    assert not any("~" in str(path) for _, path in places())
    assert maybe_user_path("~/.config") is None and maybe_user_path("a") == Path("a")
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert hub_folders() == ()


def test_the_netrc_of_the_working_folder_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    request = requests.Request("GET", "https://models.acme.internal/a").prepare()
    Credentials({}).sign(request)
    assert "Authorization" not in request.headers


@pytest.mark.parametrize("path", ["~", "~/model"])
def test_a_path_in_it_is_an_error_that_says_what_to_set(path: str) -> None:
    with pytest.raises(ConfigError, match="HOME"):
        user_path(path)
    with pytest.raises(ConfigError, match="HOME"):
        registry.ModelRegistry().load_config(path)
    with pytest.raises(ConfigError, match="HOME"):
        registry.BertConfig().save_pretrained(path)
    with pytest.raises(ConfigError, match="HOME"):
        cache_folders(path)
