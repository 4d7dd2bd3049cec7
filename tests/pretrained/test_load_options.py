"""The options of a load: dtype, device, state dict, configuration, strictness, and many loads at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import registry
from registry import CheckpointError, ConfigError
from registry_bert import BertConfig, BertForMaskedLM, BertForSequenceClassification
from registry_gpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from registry_gpt2 import GPT2Config, GPT2LMHeadModel
from registry_transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel
from tests.oracles import assert_close, old, quiet
from tests.processes import run_python
from tests.servers import file_server

BERT: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "initializer_range": 0.3,
}
GPT: dict[str, Any] = {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12, "initializer_range": 0.3}


def masked_lm() -> BertForMaskedLM:
    torch.manual_seed(1)
    return BertForMaskedLM(BertConfig(**BERT)).eval()


# -- dtype and device ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [None, "auto"])
@pytest.mark.parametrize("said", ["float16", "float32", None])
@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_without_a_dtype_the_files_own_is_kept_whatever_the_configuration_says(
    held: torch.dtype, said: str | None, option: str | None, tmp_path: Path
) -> None:
    masked_lm().to(held).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "torch_dtype": said}))
    model = registry.load(tmp_path, dtype=option)
    assert {parameter.dtype for parameter in model.parameters()} == {held}
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["torch_dtype"] == str(held).removeprefix("torch.")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", torch.float16, "torch.float16"])
def test_a_dtype_casts_every_weight_new_ones_too_and_no_integer(dtype: torch.dtype | str, tmp_path: Path) -> None:
    masked_lm().save_pretrained(tmp_path)
    wanted = getattr(torch, dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    model = registry.load(tmp_path, head="sequence-classification", dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, masked_lm().get_input_embeddings().weight.to(wanted))


@pytest.mark.parametrize("device", ["meta", torch.device("meta")])
def test_a_model_goes_to_the_device(device: Any, tmp_path: Path) -> None:
    """Any other device than the CPU will do to see that it is asked for; `meta` is the one that every machine has."""
    masked_lm().save_pretrained(tmp_path)
    model = registry.load(tmp_path, device=device)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert BertForMaskedLM.from_pretrained(tmp_path, device="cpu").device.type == "cpu"


@pytest.mark.parametrize(
    ("option", "value"),
    [("dtype", "float61"), ("dtype", torch.int8), ("device", "cellar"), ("device", "meta:x"), ("device", 1.5)],
)
def test_what_is_no_dtype_or_device_is_an_error_before_weights_are_fetched(option: str, value: Any, tmp_path: Path) -> None:
    masked_lm().save_pretrained(tmp_path / "m")
    files = {f"/m/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}
    with file_server(files) as server:
        with pytest.raises(ConfigError, match=rf"^\[R601\] {option} is expected .* but is {value!r}"):
            registry.load(f"{server.url}/m", **{option: value})
        assert {request.path for request in server.requests} <= {"/m/config.json"}


# -- state_dict and config ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [registry.load, BertForMaskedLM.from_pretrained])
@pytest.mark.parametrize("there", ["none", "broken"])
def test_a_state_dict_is_used_without_a_look_at_the_file(load: Callable[..., Any], there: str, tmp_path: Path) -> None:
    given = masked_lm().state_dict()
    masked_lm().config.replace(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    if there == "broken":
        (tmp_path / "model.safetensors").write_bytes(b"no checkpoint at all")
    model = load(tmp_path, state_dict=given, strict=True)
    assert all(torch.equal(value, given[name]) for name, value in model.state_dict().items())
    assert all(value.data_ptr() != given[name].data_ptr() for name, value in model.state_dict().items())
    model = load(tmp_path, state_dict=given, dtype="float16")
    assert model.dtype == torch.float16 and given["cls.predictions.bias"].dtype == torch.float32


def test_with_a_state_dict_no_weights_are_fetched(tmp_path: Path) -> None:
    masked_lm().save_pretrained(tmp_path / "m")
    files = {f"/m/{path.name}": path.read_bytes() for path in (tmp_path / "m").iterdir()}
    with file_server(files) as server:
        model = registry.load(f"{server.url}/m", state_dict=masked_lm().state_dict(), strict=True)
        assert isinstance(model, BertForMaskedLM)
        assert {request.path for request in server.requests} == {"/m/config.json"}


@pytest.mark.parametrize("kind", ["object", "folder", "file"])
def test_a_configuration_goes_before_the_folders_own(kind: str, tmp_path: Path) -> None:
    masked_lm().save_pretrained(tmp_path / "m")
    other = BertConfig(**BERT, output_hidden_states=True)
    other.save_pretrained(tmp_path / "c")
    given = {"object": other, "folder": tmp_path / "c", "file": tmp_path / "c" / "config.json"}[kind]
    model = registry.load(tmp_path / "m", config=given, head="masked-lm", output_attentions=True)
    assert model.config.output_hidden_states and model.config.output_attentions
    assert not other.output_attentions, "the caller's is left alone"
    assert len(model(torch.tensor([[1, 2]])).hidden_states) == 2


# -- what does not fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [None, True])
def test_mismatched_sizes_are_new_when_that_is_asked_for(strict: bool | None, tmp_path: Path) -> None:
    BertForSequenceClassification(BertConfig(**BERT, num_labels=3)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"classifier\.bias.*\(3,\).*\(5,\)"):
        registry.load(tmp_path, num_labels=5, strict=strict)
    model = registry.load(tmp_path, num_labels=5, strict=strict, ignore_mismatched_sizes=True)
    report = model.load_report
    assert [item.name for item in report.mismatched] == ["classifier.weight", "classifier.bias"]
    assert report.newly_initialized == ("classifier.weight", "classifier.bias") and report.missing == ()
    assert model(torch.tensor([[1, 2]])).logits.shape == (1, 5)


CAUSAL = {"gpt": (OpenAIGPTLMHeadModel, OpenAIGPTConfig, "OpenAIGPT"), "gpt2": (GPT2LMHeadModel, GPT2Config, "GPT2")}


@pytest.mark.parametrize("n_ctx", [4, 12, 1024])
@pytest.mark.parametrize("family", CAUSAL)
def test_the_mask_buffers_of_an_old_file_may_have_any_n_ctx(family: str, n_ctx: int, tmp_path: Path) -> None:
    """1.2.0 saves `attn.bias`, (1, 1, n_ctx, n_ctx), with each layer; here a mask is made when it is needed."""
    cls, _, stem = CAUSAL[family]
    config = getattr(old, f"{stem}Config")(
        30, n_ctx=12, **{key: GPT[key] for key in ("n_embd", "n_layer", "n_head", "n_positions")}
    )
    torch.manual_seed(2)
    theirs = getattr(old, f"{stem}LMHeadModel")(config).eval()
    quiet(theirs.save_pretrained, str(tmp_path))
    held = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    assert held["transformer.h.0.attn.bias"].shape == (1, 1, 12, 12)
    ids = torch.arange(20).reshape(2, 10)
    for model in (
        cls.from_pretrained(tmp_path, n_ctx=n_ctx, strict=True),
        registry.load(tmp_path, family=family, head="lm", n_ctx=n_ctx, strict=True),
        cls.from_pretrained(tmp_path, config=cls.config_class(**GPT, n_ctx=n_ctx), strict=True),
    ):
        assert sorted(model.load_report.ignored) == ["transformer.h.0.attn.bias", "transformer.h.1.attn.bias"]
        assert_close(model(ids).logits, quiet(theirs, ids)[0])


@pytest.mark.parametrize("family", CAUSAL)
def test_another_number_of_positions_is_a_mismatch_of_their_embedding_alone(family: str, tmp_path: Path) -> None:
    cls, config, _ = CAUSAL[family]
    model = cls(config(**GPT))
    state = {**model.state_dict(), "transformer.h.0.attn.bias": torch.ones(1, 1, 12, 12)}
    model.config.save_pretrained(tmp_path)
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"(positions_embed|wpe)\.weight: file \(12, 16\), model \(20, 16\);") as error:
        cls.from_pretrained(tmp_path, n_positions=20)
    assert "attn.bias" not in str(error.value)
    longer = cls.from_pretrained(tmp_path, n_positions=20, ignore_mismatched_sizes=True)
    assert longer(torch.arange(20)[None]).logits.shape == (1, 20, 30)


# -- threads ---------------------------------------------------------------------------------------------------------------


def models() -> list[tuple[str, Any]]:
    """Return a model of each family."""
    torch.manual_seed(4)
    sizes: dict[str, Any] = {"d_model": 8, "d_embed": 8, "n_head": 2, "d_head": 4, "d_inner": 16, "n_layer": 2, "mem_len": 6}
    return [
        ("masked-lm", BertForMaskedLM(BertConfig(**BERT))),
        ("lm", OpenAIGPTLMHeadModel(OpenAIGPTConfig(**GPT))),
        ("lm", GPT2LMHeadModel(GPT2Config(**GPT))),
        ("lm", TransfoXLLMHeadModel(TransfoXLConfig(30, cutoffs=[10, 20], div_val=2, tgt_len=4, **sizes))),
    ]


def test_eight_threads_that_load_different_models_end_right(tmp_path: Path) -> None:
    jobs: list[tuple[Path, str, str | None]] = []
    for number, (head, model) in enumerate(models()):
        for form, dtype in (({}, None), ({"safe_serialization": False, "max_shard_size": "4KB"}, "bfloat16")):
            folder = tmp_path / f"{number} {dtype}"
            model.save_pretrained(folder, **form)
            jobs.append((folder, head, dtype))
    assert len(jobs) == 8

    def load(job: tuple[Path, str, str | None]) -> Any:
        return registry.load(job[0], head=job[1], dtype=job[2])

    alone = [load(job) for job in jobs]
    before = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(), torch.is_grad_enabled()
    rounds = 5
    barrier = threading.Barrier(len(jobs))
    loaded: dict[tuple[int, int], Any] = {}
    seen: set[Any] = set()

    def work(index: int) -> None:
        for number in range(rounds):
            barrier.wait(60)
            loaded[index, number] = load(jobs[index])
            seen.add((torch.get_default_dtype(), torch.get_default_device(), torch.empty(1).device.type))

    def build() -> None:
        """Makes models and tensors of its own all the while."""
        while not stop.is_set():
            assert not torch.empty(1).is_meta and torch.empty(1).dtype == torch.float32
            assert not GPT2LMHeadModel(GPT2Config(**GPT)).transformer.wte.weight.is_meta
            built.append(1)

    stop, built = threading.Event(), []
    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(jobs))]
    other = threading.Thread(target=build)
    for thread in (other, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    other.join()
    assert len(loaded) == rounds * len(jobs) and built
    for (index, _), model in loaded.items():
        expected = alone[index].state_dict()
        assert type(model) is type(alone[index]) and model.state_dict().keys() == expected.keys()
        for name, value in model.state_dict().items():
            assert value.dtype == expected[name].dtype and torch.equal(value, expected[name]), name
        assert model.load_report == alone[index].load_report
    assert seen == {(torch.float32, torch.device("cpu"), "cpu")}
    assert before == (torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(), torch.is_grad_enabled())


COLD = """
import sys, threading
barrier = threading.Barrier(8)
right = []
def work(number):
    import registry
    folder = sys.argv[1 + number % 4]
    barrier.wait(60)
    model = registry.load(folder, dtype="bfloat16" if number > 3 else None)
    right.append((str(model.dtype), type(model).__name__))
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(right))
"""


def test_the_first_loads_of_a_process_may_be_eight_at_once(tmp_path: Path) -> None:
    """Plugins are found, and torch and the families are imported, by all of them together."""
    made = models()
    for number, (_, model) in enumerate(made):
        model.save_pretrained(tmp_path / str(number))
    done = run_python("-c", COLD, *(str(tmp_path / str(number)) for number in range(4)))
    expected = [(f"torch.{dtype}", type(model).__name__) for _, model in made for dtype in ("float32", "bfloat16")]
    assert done.stdout.strip() == str(sorted(expected)) and not done.stderr
