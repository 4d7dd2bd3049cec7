"""The examples of docs/plugins.md work as they stand, and docs/threat-model.md claims nothing that no test holds."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import tomllib
import zipfile
from pathlib import Path

import pytest

import registry
from registry.errors import IntegrityError, UnknownModel
from tests.families.conftest import Install
from tests.families.models import save_one_of_each
from tests.processes import ROOT

PAGE = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
#: File name to its text: the blocks that begin with a comment that names them.
FILES = dict(re.findall(r"```\w+\n# (\S+\.(?:py|yaml))\n(.*?)```", PAGE, re.DOTALL))
#: Group to entry points.
POINTS: dict[str, dict[str, str]] = {}
for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
    POINTS.update(tomllib.loads(block)["project"]["entry-points"])


def test_the_page_has_an_example_of_each_sort() -> None:
    assert set(FILES) == {"acme_models/models.yaml", "acme_zip.py", "acme_sign.py", "acme_audit.py"}
    assert set(POINTS) == {"registry.catalogs", "registry.transports", "registry.plugins", "registry.moved"}


def test_the_catalog_package_brings_its_name(install: Install) -> None:
    files = {name: FILES[name] for name in ("acme_models/models.yaml",)} | {"acme_models/__init__.py": ""}
    install("acme-models", POINTS["registry.catalogs"], files, group="registry.catalogs")
    assert registry.resolve("acme-support").source == "https://models.acme.example/support/"


def test_the_transport_loads_a_model_from_inside_an_archive(install: Install, tmp_path: Path) -> None:
    install("acme-zip", POINTS["registry.transports"], {"acme_zip.py": FILES["acme_zip.py"]}, group="registry.transports")
    folder = save_one_of_each(tmp_path)["GPT2LMHeadModel"]
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"small/{file.name}")
    loaded = registry.load(f"zip://{tmp_path}/models.zip!/small").state_dict()
    want = registry.load(folder).state_dict()
    assert loaded.keys() == want.keys() and all(bool((loaded[name] == want[name]).all()) for name in want)
    with pytest.raises(registry.DownloadError, match="there is none"):
        registry.load(f"zip://{tmp_path}/models.zip!/other", family="gpt2")


def test_the_verifier_accepts_what_is_signed_and_nothing_else(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-sign", POINTS["registry.plugins"], {"acme_sign.py": FILES["acme_sign.py"]}, group="registry.plugins")
    folder, signatures = save_one_of_each(tmp_path)["GPT2LMHeadModel"], tmp_path / "signatures"
    with pytest.raises(IntegrityError, match="of acme-sign 1.0, but is refused: it raised KeyError: 'ACME_KEY'"):
        registry.load(folder)
    monkeypatch.setenv("ACME_KEY", "secret")
    monkeypatch.setenv("ACME_SIGNATURES", str(signatures))
    signatures.write_text("")
    with pytest.raises(IntegrityError, match="it is not signed by Acme"):
        registry.load(folder)
    for file in folder.iterdir():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        with signatures.open("a") as listed:
            listed.write(f"{digest} {hmac.new(b'secret', f'{file.name} {digest}'.encode(), 'sha256').hexdigest()}\n")
    assert type(registry.load(folder)).__name__ == "GPT2LMHeadModel"
    monkeypatch.setenv("ACME_KEY", "another")
    with pytest.raises(IntegrityError, match="it is not signed by Acme"):
        registry.load(folder)


def test_the_listener_logs_what_is_loaded(install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    install("acme-audit", {"acme-audit": "acme_audit"}, {"acme_audit.py": FILES["acme_audit.py"]}, group="registry.plugins")
    folder = save_one_of_each(tmp_path)["GPT2LMHeadModel"]
    with caplog.at_level(logging.INFO, logger="acme_audit"):
        registry.load(folder)
    assert f"{folder} was loaded as GPT2LMHeadModel" in caplog.text


def test_a_family_that_moved_is_told_as_the_page_says(install: Install) -> None:
    install("acme-all", POINTS["registry.moved"], group="registry.moved")
    with pytest.raises(UnknownModel, match="pip install acme-xl-models"):
        registry.load("acme-xl-small")


def test_every_claim_of_the_threat_model_names_tests_that_are_there() -> None:
    cited = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/threat-model.md").read_text(encoding="utf-8"))
    assert len(cited) > 25
    for file, test in cited:
        assert not test or re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), (file, test)


def test_every_logger_that_warns_or_informs_is_on_the_page_about_logging() -> None:
    page = (ROOT / "docs/logging.md").read_text(encoding="utf-8")
    for file in (ROOT / "registry").rglob("*.py"):
        if re.search(r"logger\.(info|warning|error|debug)\(", text := file.read_text(encoding="utf-8")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            named = re.search(r'(?:getLogger|lazy_logger)\("([\w.]+)"\)', text)
            name = named[1] if named else name
            assert f"`{name}`" in page or f"`{'.'.join(name.split('.')[:2])}.*`" in page, name
