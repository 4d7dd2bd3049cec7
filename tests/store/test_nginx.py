"""HTTP against nginx as Debian ships it: whole, gone on with, in parts, and with certificates good and bad."""

from __future__ import annotations

import datetime
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import trustme

import registry.store.download
from registry.catalog.entry import FilePin, Host, Origin
from registry.errors import DownloadError
from tests.nginx import Nginx, require_nginx, running_nginx
from tests.processes import environment
from tests.proxies import cutting_proxy
from tests.store.helpers import BODY, arrived, eventually, fetch, get, pinned

NAME = "model.safetensors"
BIG = random.Random(3).randbytes(6 << 20)
PINS = {"unpinned": {}, "pinned": pinned(NAME, BIG, len(BIG))}

each_pin = pytest.mark.parametrize("pins", PINS.values(), ids=list(PINS))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificates = {
        "good": authority.issue_cert("localhost", "127.0.0.1"),
        "expired": authority.issue_cert("localhost", not_before=long_ago, not_after=long_ago + datetime.timedelta(days=1)),
        "of another host": authority.issue_cert("models.acme.example"),
    }
    pems = {name.replace(" ", "-"): each.private_key_and_cert_chain_pem.bytes() for name, each in certificates.items()}
    with running_nginx(tmp_path_factory.mktemp("nginx"), pems) as running:
        yield running


@pytest.fixture
def nginx(server: Nginx) -> Nginx:
    """The server with a log and a file of this test."""
    server.put(f"bert/{NAME}", BIG)
    (server.folder / "access.log").write_text("")
    return server


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of a few megabytes come as those of many do."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "4")
    monkeypatch.setattr(registry.store.download, "_PARTS_FROM", 1 << 20)
    monkeypatch.setattr(registry.store.download, "_PART", 1 << 19)
    monkeypatch.setattr(registry.store.download, "_PROBE", 1 << 19)


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_nginx_names_versions_and_sends_parts_of_the_version_that_is_named(nginx: Nginx) -> None:
    url = f"{nginx.url}/bert/{NAME}"
    etag = requests.head(url, timeout=10).headers["ETag"]
    part = requests.get(url, headers={"Range": "bytes=5-9", "If-Range": etag}, timeout=10)
    assert (part.status_code, part.content, part.headers["ETag"]) == (206, BIG[5:10], etag)
    nginx.put(f"bert/{NAME}", BIG[::-1])
    assert requests.get(url, headers={"Range": "bytes=5-9", "If-Range": etag}, timeout=10).status_code == 200


@each_pin
def test_a_file_comes_whole(pins: dict[str, FilePin], nginx: Nginx, cache: Path) -> None:
    assert fetch(cache, f"{nginx.url}/bert", NAME, pins).path.read_bytes() == BIG


@each_pin
@pytest.mark.parametrize("folder", ["bert", "slow"])
def test_parts_come_at_once(folder: str, pins: dict[str, FilePin], nginx: Nginx, cache: Path, in_parts: None) -> None:
    nginx.put(f"{folder}/{NAME}", BIG)
    assert fetch(cache, f"{nginx.url}/{folder}", NAME, pins).path.read_bytes() == BIG
    parts = [line for line in nginx.log() if line.startswith(f"GET /{folder}/{NAME} 206 524288 ")]
    assert len(parts) == 12
    assert sum('"bytes=' in line and line.endswith('"-"') for line in parts) == 1  # the first one names no version yet


@each_pin
def test_parts_go_on_after_a_cut(pins: dict[str, FilePin], nginx: Nginx, cache: Path, in_parts: None) -> None:
    with cutting_proxy(nginx.port) as proxy:
        proxy.rate = 8e6
        proxy.cut_after = 3 << 20
        assert fetch(cache, f"{proxy.url}/bert", NAME, pins).path.read_bytes() == BIG
        assert proxy.cuts == 1
        assert proxy.connections >= 5


def kill_halfway(url: str, cache: Path, pins: dict[str, FilePin]) -> None:
    """Fetch in a process of its own, and kill it once more than a megabyte is here, of which the journal tells then."""
    code = (
        "import sys; from pathlib import Path; from tests.store.helpers import get, FilePin; "
        "get(Path(sys.argv[1]), sys.argv[2], sys.argv[3], {sys.argv[3]: FilePin(sha256=sys.argv[4] or None)})"
    )
    sha256 = pins[NAME].sha256 if pins else None
    child = subprocess.Popen([sys.executable, "-c", code, str(cache), url, NAME, sha256 or ""], env=environment())
    try:
        eventually(lambda: child.poll() is not None or arrived(cache) > 3 << 19)
        assert child.poll() is None, "the download ended before it could be killed"
    finally:
        child.kill()
        child.wait()


@each_pin
def test_what_a_killed_process_has_left_is_gone_on_with(pins: dict[str, FilePin], nginx: Nginx, cache: Path) -> None:
    with cutting_proxy(nginx.port) as proxy:
        proxy.rate = 2e6
        kill_halfway(f"{proxy.url}/bert", cache, pins)
        proxy.rate = None
        before = proxy.bytes
        assert fetch(cache, f"{proxy.url}/bert", NAME, pins).path.read_bytes() == BIG
        assert proxy.bytes - before < len(BIG) - (1 << 19)
    assert any(" 206 " in line and '"-"' not in line for line in nginx.log())  # a part, of a version that was named


@each_pin
def test_a_file_that_changed_since_a_process_was_killed_starts_over(
    pins: dict[str, FilePin], nginx: Nginx, cache: Path
) -> None:
    nginx.put(f"bert/{NAME}", BIG[::-1])
    with cutting_proxy(nginx.port) as proxy:
        proxy.rate = 2e6
        kill_halfway(f"{proxy.url}/bert", cache, pins)
        proxy.rate = None
        nginx.put(f"bert/{NAME}", BIG)
        before = proxy.bytes
        assert fetch(cache, f"{proxy.url}/bert", NAME, pins).path.read_bytes() == BIG
        assert proxy.bytes - before >= len(BIG)


def test_a_file_of_ordinary_size_comes_in_parts_of_ordinary_size(
    nginx: Nginx, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "4")
    body = random.Random(5).randbytes(100 << 20)
    nginx.put(f"large/{NAME}", body)
    assert fetch(cache, f"{nginx.url}/large", NAME).path.read_bytes() == body
    assert sum(" 206 " in line for line in nginx.log()) == 7  # of 16 MiB, the last one shorter
    (nginx.folder / "files" / "large" / NAME).unlink()


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an authority that nobody trusts by himself."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def hosts_trusting(ca_file: Path, port: int) -> dict[str, Host]:
    name = f"localhost:{port}"
    return {name: Host(name=name, ca_file=str(ca_file), origin=Origin("models.yaml", 1, 1))}


@pytest.mark.parametrize("by", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "hosts"])
def test_an_authority_that_is_named_is_trusted(
    by: str, nginx: Nginx, ca_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx.put("small/config.json", BODY)
    port = nginx.tls_ports["good"]
    hosts = hosts_trusting(ca_file, port) if by == "hosts" else None
    if by != "hosts":
        monkeypatch.setenv(by, str(ca_file))
    assert fetch(cache, f"https://localhost:{port}/small", "config.json", hosts=hosts).path.read_bytes() == BODY


def test_what_requests_itself_reads_goes_before_what_openssl_reads(
    nginx: Nginx, ca_file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert fetch(cache, f"https://localhost:{nginx.tls_ports['good']}/bert", NAME).path.read_bytes() == BIG


@pytest.mark.parametrize(
    ("certificate", "named", "says"),
    [
        ("good", False, "certificate is not trusted.*set SSL_CERT_FILE"),
        ("expired", True, "certificate is not trusted: certificate has expired"),
        ("of-another-host", True, "certificate is not trusted: Hostname mismatch"),
    ],
)
def test_a_certificate_that_is_not_good_is_refused_at_once(
    certificate: str, named: bool, says: str, nginx: Nginx, ca_file: Path, cache: Path
) -> None:
    with cutting_proxy(nginx.tls_ports[certificate]) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        with pytest.raises(DownloadError, match=says):
            get(cache, f"https://localhost:{port}/bert", NAME, hosts=hosts_trusting(ca_file, port) if named else None)
        assert proxy.connections == 1  # what is wrong with a certificate does not pass
    assert nginx.log() == []


def test_a_machine_without_nginx_skips_these_and_ci_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nginx is not installed"):
        require_nginx()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nginx is not installed"):
        require_nginx()
