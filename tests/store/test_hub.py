"""The model hub's resolve protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import registry
from registry.catalog.entry import FilePin
from registry.errors import ConfigError, DownloadError, IntegrityError, OfflineError, UnknownModel
from registry.store.cache import Cache
from registry.store.store import Store
from registry.store.target import Place
from registry.store.transports.hub import HubTransport, split_hub_url
from tests.servers import COMMIT, Handler, HubFiles, Request, Server, file_server, hub_server, serving
from tests.store.helpers import evict, fetch, get, host, listing, sha256, visible

REPO = "acme/support-bert"
SOURCE = f"hf://{REPO}"
SMALL = b'{"model_type": "bert"}'
LARGE = bytes(range(256)) * 100
NEXT = "fedcba0987654321fedcba0987654321fedcba09"


@pytest.fixture
def hub() -> HubFiles:
    return HubFiles({REPO: {"config.json": SMALL, "model.safetensors": LARGE}})


@pytest.fixture
def server(hub: HubFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with hub_server(hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def asked(server: Server) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in server.requests]


def git_sha1(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


# -- the protocol ------------------------------------------------------------------------------------------------------


def test_a_large_file_has_the_sha256_of_its_link(server: Server) -> None:
    found = HubTransport({}).describe(f"{SOURCE}/model.safetensors")
    assert (found.sha256, found.size, found.commit, found.git_sha1) == (sha256(LARGE), len(LARGE), COMMIT, None)
    assert found.address == f"{server.url}/cdn/{sha256(LARGE)}?signature=secret"
    assert asked(server) == [("HEAD", f"/{REPO}/resolve/main/model.safetensors")]


def test_a_small_file_has_the_hash_that_git_gives_it(server: Server) -> None:
    found = HubTransport({}).describe(f"{SOURCE}/config.json")
    assert (found.sha256, found.git_sha1, found.commit) == (None, git_sha1(SMALL), COMMIT)
    resolved = f"/api/resolve-cache/models/{REPO}/{COMMIT}/config.json?etag=x"
    assert found.address == server.url + resolved
    assert asked(server) == [("HEAD", f"/{REPO}/resolve/main/config.json"), ("HEAD", resolved)]


def test_a_small_file_may_be_sent_at_once(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.direct.add(REPO)
    assert HubTransport({}).describe(f"{SOURCE}/config.json").git_sha1 == git_sha1(SMALL)
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL


def test_the_hubs_token_does_not_go_to_the_host_before_a_backslash(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    with file_server({}) as other:
        target = f"{other.url}\\@{server.url.removeprefix('http://')}/x"
        server.answer = lambda handler, request: handler.reply(
            request, 302, headers={"Location": target, "X-Linked-ETag": f'"{sha256(LARGE)}"'}
        )
        with pytest.raises(DownloadError, match="leads to an address without a clear host"):
            fetch(cache, SOURCE, "model.safetensors")
        assert server.requests[0].headers["authorization"] == "Bearer hunter2"
    assert other.requests == []


def test_files_of_both_kinds_are_fetched_and_checked(server: Server, cache: Path) -> None:
    small, large = (fetch(cache, SOURCE, name) for name in ("config.json", "model.safetensors"))
    assert (small.path.read_bytes(), small.sha256, small.trust) == (SMALL, sha256(SMALL), "hub")
    assert (large.path.read_bytes(), large.sha256, large.trust) == (LARGE, sha256(LARGE), "hub")


def test_what_is_asked_of_the_hub_and_what_it_sends_share_a_connection(server: Server, cache: Path) -> None:
    connections, answer = set(), server.answer

    def counted(handler: Handler, request: Request) -> None:
        connections.add(handler.client_address)
        answer(handler, request)

    server.answer = counted
    with Store(Cache((cache,)), offline=False) as store:
        for name in ("config.json", "model.safetensors"):
            assert store.get(Place((SOURCE,)), name)
    assert len(connections) == 1


def test_the_hubs_word_is_a_pin_where_pins_are_required(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL
    assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("hf://acme/bert", ("acme/bert", "main", "")),
        ("hf://acme/bert@v1.0", ("acme/bert", "v1.0", "")),
        ("hf://acme/bert@v1.0/onnx/model.onnx", ("acme/bert", "v1.0", "onnx/model.onnx")),
        ("hf://acme/bert@refs/pr/5", ("acme/bert", "refs/pr/5", "")),
        ("hf://acme/bert@refs/pr/5/config.json", ("acme/bert", "refs/pr/5", "config.json")),
        ("hf://acme/bert@refs%2Fpr%2F5/config.json", ("acme/bert", "refs/pr/5", "config.json")),
        ("hf://gpt2", ("gpt2", "main", "")),
        ("hf://gpt2@main/config.json", ("gpt2", "main", "config.json")),
    ],
)
def test_the_parts_of_a_hub_address(url: str, parts: tuple[str, str, str]) -> None:
    assert split_hub_url(url) == parts


@pytest.mark.parametrize("url", ["hf://", "hf:///bert", "hf://acme bert/x", "hf://acme/bert@", "hf://acme/bert@/config.json"])
def test_what_is_no_hub_address_is_a_clear_error(url: str, cache: Path, unplug: Callable[[], None]) -> None:
    unplug()
    with pytest.raises(DownloadError, match="expected to be hf://org/repo@revision"):
        get(cache, url, "config.json")


@pytest.mark.parametrize("revision", ["refs/pr/5", "refs%2Fpr%2F5"])
def test_a_revision_with_slashes_is_one_revision(revision: str, hub: HubFiles, server: Server, cache: Path) -> None:
    hub.commits["refs%2Fpr%2F5"] = NEXT
    assert fetch(cache, f"{SOURCE}@{revision}", "config.json").path.read_bytes() == SMALL
    assert asked(server)[0] == ("HEAD", f"/{REPO}/resolve/refs%2Fpr%2F5/config.json")


def test_a_subfolder_of_a_repository_is_a_source(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.files[REPO]["onnx/config.json"] = b"{}"
    assert fetch(cache, f"{SOURCE}@main/onnx", "config.json").path.read_bytes() == b"{}"


def test_an_empty_endpoint_is_as_if_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert HubTransport({}).endpoint == "https://huggingface.co"


def test_an_endpoint_may_have_a_path_and_a_slash_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.acme.internal/hub/")
    assert HubTransport({}).endpoint == "https://mirror.acme.internal/hub"


# -- revisions ---------------------------------------------------------------------------------------------------------


def test_a_moving_revision_is_held_to_the_commit_it_was(hub: HubFiles, server: Server, cache: Path) -> None:
    fetch(cache, SOURCE, "config.json")
    hub.commits["main"] = NEXT
    hub.commits["before"] = COMMIT
    fetch(cache, SOURCE, "model.safetensors")
    assert asked(server)[-2] == ("HEAD", f"/{REPO}/resolve/{COMMIT}/model.safetensors")


def test_a_second_load_asks_nobody(server: Server, cache: Path, unplug: Callable[[], None]) -> None:
    for name in ("config.json", "model.safetensors"):
        fetch(cache, SOURCE, name)
    before = listing(cache)
    unplug()
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL
    assert fetch(cache, SOURCE, "model.safetensors", offline=True).path.read_bytes() == LARGE
    assert listing(cache) == before


def test_a_refresh_asks_for_the_commit_of_today(hub: HubFiles, server: Server, cache: Path) -> None:
    fetch(cache, SOURCE, "config.json")
    hub.commits["main"] = NEXT
    hub.files[REPO]["config.json"] = b'{"model_type": "bert", "hidden_size": 8}'
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL
    assert b"hidden_size" in fetch(cache, SOURCE, "config.json", refresh=True).path.read_bytes()
    count = len(server.requests)
    assert b"hidden_size" in fetch(cache, SOURCE, "config.json").path.read_bytes()
    assert len(server.requests) == count


def test_files_of_one_operation_are_of_one_commit(hub: HubFiles, server: Server, cache: Path) -> None:
    with Store(Cache((cache,)), offline=False, refresh=True) as store:
        assert store.get(Place((SOURCE,)), "config.json")
        hub.commits.update(main=NEXT, before=COMMIT)
        assert store.get(Place((SOURCE,)), "model.safetensors")
    heads = [path for method, path in asked(server) if method == "HEAD" and "/resolve/" in path]
    assert heads == [f"/{REPO}/resolve/main/config.json", f"/{REPO}/resolve/{COMMIT}/model.safetensors"]


def test_a_failed_first_fetch_does_not_hold_a_revision(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.lies["model.safetensors"] = "0" * 64
    with pytest.raises(IntegrityError):
        get(cache, SOURCE, "model.safetensors")
    assert visible(cache) == []
    hub.lies.clear()
    hub.commits["main"] = NEXT
    fetch(cache, SOURCE, "model.safetensors")
    assert asked(server)[-2] == ("HEAD", f"/{REPO}/resolve/main/model.safetensors")


def test_an_absent_optional_file_is_remembered(server: Server, cache: Path, unplug: Callable[[], None]) -> None:
    fetch(cache, SOURCE, "config.json")
    assert get(cache, SOURCE, "added_tokens.json") is None
    unplug()
    assert get(cache, SOURCE, "added_tokens.json") is None
    assert get(cache, SOURCE, "added_tokens.json", offline=True) is None


def test_a_file_that_is_asked_for_first_and_absent_is_remembered(
    hub: HubFiles, server: Server, cache: Path, unplug: Callable[[], None]
) -> None:
    hub.files[REPO] = {"pytorch_model.bin": LARGE}

    def weights(offline: bool) -> bytes:
        with Store(Cache((cache,)), offline=offline) as store:
            found = store.first(Place((SOURCE,)), ("model.safetensors", "pytorch_model.bin"))
        assert found is not None
        return found.path.read_bytes()

    assert weights(offline=False) == LARGE
    unplug()
    assert weights(offline=True) == LARGE


def test_a_file_with_an_address_of_its_own_on_the_hub(server: Server, cache: Path, unplug: Callable[[], None]) -> None:
    pins = {"bert.json": FilePin(url=f"{SOURCE}@main/config.json")}
    assert fetch(cache, "https://unused.example", "bert.json", pins).path.read_bytes() == SMALL
    unplug()
    assert fetch(cache, "https://unused.example", "bert.json", pins).path.read_bytes() == SMALL
    assert fetch(cache, "https://unused.example", "bert.json", pins, offline=True).path.read_bytes() == SMALL


def test_offline_a_revision_that_was_never_seen_is_an_offline_error(
    server: Server, cache: Path, unplug: Callable[[], None]
) -> None:
    unplug()
    with pytest.raises(OfflineError, match=r"config\.json"):
        get(cache, f"{SOURCE}@v1.0", "config.json", offline=True)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_the_hubs_token_goes_to_the_hub_and_not_to_where_it_stores_files(
    hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_s3cr3t"
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    with file_server({f"/cdn/{sha256(LARGE)}": LARGE}) as cdn:
        hub.cdn = cdn.url
        assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL
        assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE
    assert {request.headers.get("authorization") for request in server.requests} == {"Bearer hf_s3cr3t"}
    assert [request.headers.get("authorization") for request in cdn.requests] == [None]


def test_the_hubs_token_does_not_go_to_other_servers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    with file_server({"/config.json": SMALL}) as other:
        fetch(cache, other.url, "config.json")
    assert [request.headers.get("authorization") for request in other.requests] == [None]


def test_the_hubs_token_does_not_go_to_another_endpoint_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.acme.internal")
    assert HubTransport({})._http.credentials.token("http://mirror.acme.internal/gpt2/resolve/main/config.json") is None


def test_no_token_is_in_an_error(hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    hub.lies["model.safetensors"] = "0" * 64
    with pytest.raises(IntegrityError) as caught:
        get(cache, SOURCE, "model.safetensors")
    assert "hf_s3cr3t" not in str(caught.value)
    assert "signature" not in str(caught.value)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_gated_repository_says_where_to_ask(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.gated.add(REPO)
    hub.token = "hf_s3cr3t"
    with pytest.raises(DownloadError, match=rf"{REPO} .* is gated; ask for access at {server.url}/{REPO}") as caught:
        get(cache, SOURCE, "config.json")
    assert caught.value.status == 403


@pytest.mark.parametrize("source", [SOURCE, "hf://acme/no-such-model"])
def test_a_private_and_a_missing_repository_look_alike_and_say_so(
    source: str, hub: HubFiles, server: Server, cache: Path
) -> None:
    hub.token = "hf_s3cr3t"
    with pytest.raises(
        DownloadError, match=r"is private or does not exist \(401\); check the name; set HF_TOKEN, which is not set"
    ) as caught:
        get(cache, source, "config.json")
    assert caught.value.status == 401
    assert not isinstance(caught.value, UnknownModel | LookupError)


def test_a_refused_hub_token_is_named(hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_s3cr3t"
    monkeypatch.setenv("HF_TOKEN", "hf_0ther")
    with pytest.raises(DownloadError, match="check the token in HF_TOKEN") as caught:
        get(cache, SOURCE, "config.json")
    assert "hf_0ther" not in str(caught.value)


def test_a_hub_whose_hosts_entry_names_a_variable_that_is_not_set_says_so(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.token = "hf_s3cr3t"
    name = server.url.removeprefix("http://")
    with pytest.raises(DownloadError, match="check the name; ACME_HUB, which is to hold the token of"):
        get(cache, SOURCE, "config.json", hosts=host(name, "ACME_HUB"))


def test_a_missing_revision_is_named(server: Server, cache: Path) -> None:
    with pytest.raises(DownloadError, match=rf"revision 'v9' of {REPO} is expected to exist, but does not") as caught:
        get(cache, f"{SOURCE}@v9", "config.json")
    assert caught.value.status == 404
    assert visible(cache) == []


def test_a_missing_file_is_missing(server: Server, cache: Path) -> None:
    assert get(cache, SOURCE, "vocab.txt") is None


@pytest.mark.parametrize("source", ["hf://acme/no-such-model", f"{SOURCE}@v9", SOURCE])
def test_a_load_from_the_hub_that_fails_is_a_download_error(source: str, hub: HubFiles, server: Server) -> None:
    hub.files[REPO] = {"README.md": b"nothing else"}
    for use in (registry.load, registry.fetch, registry.load_tokenizer):
        with pytest.raises(DownloadError) as caught:
            use(source)
        assert not isinstance(caught.value, LookupError)


@pytest.mark.parametrize("pin", [FilePin(sha256="0" * 64), FilePin(size=5), FilePin(sha256=sha256(LARGE), size=5)])
def test_a_pin_that_the_hub_contradicts_fails_before_content_is_sent(pin: FilePin, server: Server, cache: Path) -> None:
    with pytest.raises(IntegrityError):
        get(cache, SOURCE, "model.safetensors", {"model.safetensors": pin})
    assert [method for method, _ in asked(server)] == ["HEAD"]
    assert visible(cache) == []


@pytest.mark.parametrize(
    ("name", "lie", "pin", "says"),
    [
        ("model.safetensors", "0" * 64, FilePin(), f"sha256 .* expected to be {'0' * 64}, but is {sha256(LARGE)}"),
        ("config.json", "0" * 40, FilePin(), f"git blob sha1 .* expected to be {'0' * 40}, but is {git_sha1(SMALL)}"),
        ("config.json", "0" * 40, FilePin(sha256=sha256(SMALL)), "git blob sha1"),
    ],
)
def test_a_hub_that_lies_about_a_hash_is_found_out(
    name: str, lie: str, pin: FilePin, says: str, hub: HubFiles, server: Server, cache: Path
) -> None:
    hub.lies[name] = lie
    with pytest.raises(IntegrityError, match=says):
        get(cache, SOURCE, name, {name: pin})
    assert visible(cache) == []


def test_a_store_that_sends_other_bytes_than_the_hub_says_is_found_out(hub: HubFiles, server: Server, cache: Path) -> None:
    with file_server({f"/cdn/{sha256(LARGE)}": LARGE[::-1]}) as cdn:
        hub.cdn = cdn.url
        with pytest.raises(IntegrityError):
            get(cache, SOURCE, "model.safetensors")
    assert visible(cache) == []


def test_a_small_file_that_differs_from_its_pin_is_found_out(server: Server, cache: Path) -> None:
    with pytest.raises(IntegrityError):
        get(cache, SOURCE, "config.json", {"config.json": FilePin(sha256="0" * 64)})
    assert visible(cache) == []


def test_bytes_that_are_here_already_are_not_sent_again(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.files["acme/copy"] = {"model.safetensors": LARGE}
    first = fetch(cache, SOURCE, "model.safetensors")
    count = len(server.requests)
    assert fetch(cache, "hf://acme/copy", "model.safetensors").path == first.path
    assert [method for method, _ in asked(server)[count:]] == ["HEAD"]


def test_an_evicted_file_is_fetched_again_at_its_commit(hub: HubFiles, server: Server, cache: Path) -> None:
    fetch(cache, SOURCE, "model.safetensors")
    hub.commits.update(main=NEXT, before=COMMIT)
    evict(cache)
    assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE
    assert asked(server)[-2] == ("HEAD", f"/{REPO}/resolve/{COMMIT}/model.safetensors")


def test_no_endpoint_is_a_download_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match="is expected to answer, but does not"):
        get(cache, SOURCE, "config.json")
    assert visible(cache) == []


def test_a_file_that_its_store_has_lost_is_not_a_missing_file(hub: HubFiles, server: Server, cache: Path) -> None:
    with file_server({}) as cdn:
        hub.cdn = cdn.url
        with pytest.raises(DownloadError) as caught:
            get(cache, SOURCE, "model.safetensors")
    assert caught.value.status == 404
    assert visible(cache) == []


def test_a_mirror_that_helps_out_does_not_hold_the_failed_revision(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.expired = 99
    with file_server({"/model.safetensors": LARGE}) as mirror:
        fetch(cache, (SOURCE, mirror.url), "model.safetensors")
    assert Cache((cache,)).read_ref(SOURCE) is None


def test_a_mirror_is_held_to_what_the_hub_said_of_the_file(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.expired = 99
    with file_server({"/model.safetensors": LARGE[::-1]}) as mirror:
        with pytest.raises(DownloadError, match="answers 403"):
            get(cache, (SOURCE, mirror.url), "model.safetensors")
        assert mirror.sent("/model.safetensors") == 2 * len(LARGE)
    assert visible(cache) == []


@pytest.mark.parametrize(
    "source",
    ["hf://me:s3cr3t@acme/bert", "hf://acme/bert?token=s3cr3t", "hf://acme/bert@main?token=s3cr3t", "hf://acme/b#s3cr3t"],
)
def test_a_secret_in_a_hub_address_is_refused_and_not_shown(source: str, cache: Path, unplug: Callable[[], None]) -> None:
    unplug()
    with pytest.raises(DownloadError, match="has a password, query or fragment; set HF_TOKEN") as caught:
        get(cache, source, "config.json")
    assert "s3cr3t" not in f"{caught.value!r} {vars(caught.value)}"


@pytest.mark.parametrize("endpoint", ["https://h:abc", "127.0.0.1:9", "ftp://hub.example", "https://", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_a_clear_error(
    endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch, unplug: Callable[[], None]
) -> None:
    unplug()
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match="HF_ENDPOINT is expected to be an address"):
        get(cache, SOURCE, "config.json")


def test_a_password_of_the_endpoint_is_not_shown(
    hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add(REPO)
    monkeypatch.setenv("HF_ENDPOINT", server.url.replace("//", "//me:s3cr3t@"))
    with pytest.raises(DownloadError, match="ask for access") as caught:
        get(cache, SOURCE, "config.json")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("token", ["hf_s3cr3t\nX-Evil: 1", "hf_ſ3cr3t", "hf s3cr3t"])
def test_a_token_that_no_header_can_carry_names_its_variable(
    token: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match="HF_TOKEN is expected to hold a token") as caught:
        get(cache, SOURCE, "config.json")
    assert "3cr3t" not in str(caught.value) and server.requests == []


def test_blanks_around_a_token_are_no_part_of_it(
    hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_s3cr3t"
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t\n")
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL


# -- the hub's oddities ------------------------------------------------------------------------------------------------


def test_netrc_does_not_replace_the_hubs_token(
    hub: HubFiles, server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    hub.token = "hf_s3cr3t"
    for name, body in hub.files[REPO].items():
        assert fetch(cache, SOURCE, name).path.read_bytes() == body
    assert {request.headers.get("authorization") for request in server.requests} == {"Bearer hf_s3cr3t"}


@pytest.mark.parametrize("claim", ["abc", "0" * 32, "0" * 63, "Z" * 64, "", "sha256:" + "0" * 64])
def test_a_hash_of_another_form_vouches_for_nothing(
    claim: str, hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.lies["model.safetensors"] = claim or '"'
    found = HubTransport({}).describe(f"{SOURCE}/model.safetensors")
    assert (found.sha256, found.git_sha1, found.size) == (None, None, len(LARGE))
    monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
    with pytest.raises(IntegrityError, match="REGISTRY_REQUIRE_PINS"):
        get(cache, SOURCE, "model.safetensors")
    monkeypatch.delenv("REGISTRY_REQUIRE_PINS")
    assert fetch(cache, SOURCE, "model.safetensors").trust == "first-use"


def test_an_address_whose_signature_has_expired_is_asked_for_anew(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.expired = 1
    assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE
    asked = [(request.method, request.path.partition("?")[0].split("/")[1]) for request in server.requests]
    assert asked == [("HEAD", "acme"), ("GET", "cdn"), ("HEAD", "acme"), ("GET", "cdn")]


def test_an_expired_address_is_asked_for_at_the_commit_that_was_first_seen(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.expired = 1
    answer = server.answer

    def moving(handler: Handler, request: Request) -> None:
        answer(handler, request)
        hub.commits |= {"main": NEXT, "old": COMMIT}

    server.answer = moving
    assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE
    heads = [request.path.split("/")[4] for request in server.requests if request.method == "HEAD"]
    assert heads == ["main", COMMIT]


def test_an_address_that_is_refused_again_is_an_error(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.expired = 99
    with pytest.raises(DownloadError, match="answers 403"):
        get(cache, SOURCE, "model.safetensors")


def test_a_mirror_without_the_commits_header_still_serves(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.names_commit = False
    for name, body in hub.files[REPO].items():
        assert fetch(cache, SOURCE, name).path.read_bytes() == body
        assert fetch(cache, SOURCE, name).trust == "hub"


@pytest.mark.parametrize("status", [200, 403, 405, 501])
def test_where_a_mirror_keeps_its_files_is_not_asked_for_hashes(
    status: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ETag may be any hash, and an address that is signed for a GET refuses a HEAD."""

    def stored(handler: Handler, request: Request) -> None:
        if request.method == "HEAD":
            handler.reply(request, status, LARGE, {"ETag": f'"{hashlib.sha1(LARGE).hexdigest()}"'})
        else:
            handler.reply(request, 200, LARGE)

    with (
        serving(stored) as store,
        serving(lambda handler, request: handler.reply(request, 302, b"", {"Location": f"{store.url}/x?s=1"})) as mirror,
    ):
        monkeypatch.setenv("HF_ENDPOINT", mirror.url)
        file = fetch(cache, SOURCE, "model.safetensors")
    assert (file.path.read_bytes(), file.trust) == (LARGE, "first-use")


def test_an_endpoint_that_leads_to_the_hub_itself_is_followed(
    hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leading(handler: Handler, request: Request) -> None:
        handler.reply(request, 301, b"", {"Location": f"{server.url}{request.path}"})

    with serving(leading) as short:
        monkeypatch.setenv("HF_ENDPOINT", short.url)
        for name, body in hub.files[REPO].items():
            file = fetch(cache, SOURCE, name)
            assert (file.path.read_bytes(), file.trust) == (body, "hub")
        with pytest.raises(DownloadError, match="revision 'gone'"):
            get(cache, f"{SOURCE}@gone", "config.json")


def test_a_large_file_of_the_hub_is_gone_on_with_where_it_broke_off(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.cut = [len(LARGE) // 2]
    assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE
    assert server.requests[-1].headers["range"].startswith(f"bytes={len(LARGE) // 2}-")


@pytest.mark.parametrize("pin", [None, "0" * 64], ids=["no pin", "a wrong pin"])
def test_an_entry_with_a_commit_and_no_hash_ends_with_the_hubs_own_checked(
    pin: str | None, hub: HubFiles, server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.files[REPO] |= {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[UNK]\n"}
    files = f"\n    files: {{model.safetensors: {{sha256: '{pin}'}}}}" if pin else ""
    (tmp_path / "models.yaml").write_text(
        f"registry: 1\nmodels:\n  acme-bert:\n    family: bert\n    source: {SOURCE}@{COMMIT}{files}\n"
    )
    monkeypatch.setenv("REGISTRY_MODELS", str(tmp_path / "models.yaml"))
    if pin:
        with pytest.raises(IntegrityError, match="sha256"):
            registry.fetch("acme-bert")
        assert not [name for name in visible(cache) if sha256(LARGE) in name or name.startswith("folders")]
        return
    folder = registry.fetch("acme-bert")
    assert (folder / "model.safetensors").read_bytes() == LARGE
    held = registry.default_registry().cached_files("acme-bert")
    assert (held["model.safetensors"].sha256, held["model.safetensors"].trust) == (sha256(LARGE), "hub")
    hub.lies["model.safetensors"] = "1" * 64
    with pytest.raises(IntegrityError, match=f"expected to be {'1' * 64}, but is {sha256(LARGE)}"):
        registry.fetch("acme-bert", cache_dir=tmp_path / "other")


# -- answers about another commit --------------------------------------------------------------------------------------


def moving(server: Server, body: bytes = SMALL, *, missing: bool = False) -> None:
    """Let a hub say another commit in each answer."""

    def answer(handler: Handler, request: Request) -> None:
        said = {"X-Repo-Commit": f"{len(server.requests):040x}"}
        if missing and not request.path.endswith("/config.json"):
            handler.reply(request, 404, b"", {"X-Error-Code": "EntryNotFound", **said})
        else:
            handler.reply(request, 200, body, {"ETag": f'"{git_sha1(body)}"', **said})

    server.answer = answer


@pytest.mark.parametrize("missing", [False, True], ids=["whose files are all there", "that has one file"])
@pytest.mark.parametrize("what", ["load", "load_tokenizer", "load_config", "fetch"])
def test_a_hub_whose_commit_changes_with_every_answer_ends_in_one_error(
    what: str, missing: bool, server: Server, cache: Path
) -> None:
    moving(server, missing=missing)
    with pytest.raises(DownloadError, match=r"is expected to be answered at commit 0+1, but the answer is about commit 0+2"):
        getattr(registry, what)(SOURCE, family="bert", cache_dir=cache)
    assert len(server.requests) <= 10


@pytest.mark.parametrize("missing", [False, True], ids=["there", "missing"])
def test_a_commit_that_was_asked_for_is_what_comes_or_an_error(missing: bool, server: Server, cache: Path) -> None:
    moving(server, missing=missing)
    with pytest.raises(DownloadError, match=f"at commit {COMMIT}, but the answer is about commit 0+1"):
        get(cache, f"{SOURCE}@{COMMIT}", "vocab.txt")
    assert len(server.requests) == 1 and visible(cache) == []


def test_content_of_another_commit_is_an_error(hub: HubFiles, server: Server, cache: Path) -> None:
    """The branch moves between the question and the content."""

    def answer(handler: Handler, request: Request) -> None:
        commit = COMMIT if request.method == "HEAD" else NEXT
        handler.reply(request, 200, SMALL, {"X-Repo-Commit": commit})

    server.answer = answer
    with pytest.raises(DownloadError, match=f"at commit {COMMIT}, but the answer is about commit {NEXT}"):
        get(cache, SOURCE, "config.json")


def test_the_content_of_a_branch_is_asked_for_at_its_commit(hub: HubFiles, server: Server, cache: Path) -> None:
    hub.direct.add(REPO)
    fetch(cache, SOURCE, "config.json")
    assert asked(server)[-1] == ("GET", f"/{REPO}/resolve/{COMMIT}/config.json")


def test_that_a_file_is_missing_at_one_commit_says_nothing_of_another(hub: HubFiles, server: Server, cache: Path) -> None:
    """Two threads ask for a branch, which moves between the answers."""
    hub.commits["other"] = NEXT
    hub.direct.add(REPO)
    with Store(Cache((cache,)), offline=False) as store:
        place = Place((SOURCE,))
        held = store._revisions.hold

        def overtaken(transport: HubTransport, source: str, commit: str | None) -> None:
            held(transport, source, NEXT)

        answered: list[str] = []
        plain = server.answer

        def answer(handler: Handler, request: Request) -> None:
            answered.append(request.path)
            if "/main/" in request.path:
                handler.reply(request, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            else:
                plain(handler, request)

        server.answer = answer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store._revisions, "hold", overtaken)
            assert (file := store.get(place, "config.json")) is not None and file.path.read_bytes() == SMALL
        assert [path.split("/")[4] for path in answered] == ["main", NEXT, NEXT]


# -- the token of the hub's own login ----------------------------------------------------------------------------------


def authorizations(server: Server) -> set[str | None]:
    return {request.headers.get("authorization") for request in server.requests}


@pytest.fixture
def login(tmp_path: Path) -> Path:
    """Store a token where the hub's login does."""
    path = Path.home() / ".cache" / "huggingface" / "token"
    path.parent.mkdir(parents=True)
    path.write_text("hf_stored\n")
    return path


@pytest.mark.parametrize("where", ["by default", "HF_HOME", "HF_TOKEN_PATH", "XDG_CACHE_HOME"])
def test_the_token_of_a_login_goes_to_the_hub(
    where: str, server: Server, login: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where != "by default":
        path = {"HF_TOKEN_PATH": "token", "XDG_CACHE_HOME": "huggingface/token"}.get(where, "token")
        (tmp_path / "set" / path).parent.mkdir(parents=True)
        (tmp_path / "set" / path).write_text("  hf_set \n")
        monkeypatch.setenv(where, str(tmp_path / "set" / ("token" if where == "HF_TOKEN_PATH" else "")))
    fetch(cache, SOURCE, "config.json")
    assert authorizations(server) == {"Bearer hf_stored" if where == "by default" else "Bearer hf_set"}


def test_a_token_of_the_environment_and_one_of_the_catalog_go_first(
    server: Server, login: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "acme")
    fetch(cache, SOURCE, "config.json", hosts=host(server.url.split("/")[2], "ACME_TOKEN"))
    assert authorizations(server) == {"Bearer acme"}
    server.requests.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_own")
    fetch(cache, SOURCE, "config.json", refresh=True)
    assert authorizations(server) == {"Bearer hf_own"}


def test_a_password_in_the_address_of_the_hub_goes_first(
    server: Server, login: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url.replace("//", "//me:hunter2@"))
    fetch(cache, SOURCE, "config.json")
    assert authorizations(server) == {"Basic bWU6aHVudGVyMg=="}


@pytest.mark.parametrize("value", ["1", "TRUE", "yes", "ON"])
def test_the_token_of_a_login_is_not_sent_where_it_is_switched_off(
    value: str, server: Server, login: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", value)
    fetch(cache, SOURCE, "config.json")
    assert authorizations(server) == {None}


def test_the_token_of_a_login_reaches_the_hubs_origin_only(
    hub: HubFiles, server: Server, login: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sha256(LARGE)
    with file_server({f"/cdn/{digest}": LARGE, "/plain/config.json": SMALL}) as other:
        hub.cdn = other.url
        fetch(cache, SOURCE, "model.safetensors")
        fetch(cache, f"{other.url}/plain", "config.json")
        assert authorizations(other) == {None} and authorizations(server) == {"Bearer hf_stored"}
    credentials = HubTransport({})._http.credentials
    assert credentials.token(f"{server.url}/a") == ("Authorization", "Bearer hf_stored")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.acme.internal")
    assert HubTransport({})._http.credentials.token("http://hub.acme.internal/a") is None


@pytest.mark.parametrize("text", ["", "\n", "a b", "ü", "a\nb"])
def test_a_stored_token_that_no_header_carries_is_an_error_that_does_not_show_it(
    text: str, server: Server, login: Path, cache: Path
) -> None:
    login.write_text(text)
    if not text.strip():
        fetch(cache, SOURCE, "config.json")
        assert authorizations(server) == {None}
        return
    with pytest.raises(ConfigError, match="hub's login") as caught:
        fetch(cache, SOURCE, "config.json")
    assert text not in str(caught.value) and server.requests == []
