"""The conformance suite fails for broken families: each mistake is the failure of exactly the check that is named for it."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.cli.new_family import write_package
from registry.testing import FamilySuite

#: A head that generates: the template has none.
_GENERATES = """

from typing import Any  # noqa: E402

from registry.pretrained import GenerationMixin  # noqa: E402


class AcmeForLM(AcmeForMaskedLM, GenerationMixin):
    def start_generation(self, batch_size: int, max_length: int) -> Any:
        return []

    def generation_step(self, input_ids: Tensor, attention_mask: Tensor | None, state: Any) -> Tensor:
        STEP
        return self(torch.cat(state, 1)).logits[:, -1]
"""
_PLUGIN, _CONFIG, _MODELING, _TOKENIZATION = "plugin.py", "config.py", "modeling.py", "tokenization.py"

#: What is wrong, to the check that says so and the edits that make it wrong: file, old text, new text.
BROKEN: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "raises when it is imported": (
        "test_plugin_imports",
        [(_PLUGIN, "REGISTRY_API = 1", "raise RuntimeError('no licence key')")],
    ),
    "needs a newer registry": (
        "test_plugin_states_the_version_of_the_contract",
        [(_PLUGIN, "REGISTRY_API = 1", "REGISTRY_API = 99")],
    ),
    "has a default head that it does not have": (
        "test_plugin_describes_its_family",
        [(_PLUGIN, 'default_head="base"', 'default_head="lm"')],
    ),
    "imports torch in plugin.py": (
        "test_plugin_is_light",
        [(_PLUGIN, "from registry import", "import torch\nfrom registry import")],
    ),
    "imports its model in __init__.py": (
        "test_plugin_is_light",
        [("__init__.py", "TYPE_CHECKING = False", "TYPE_CHECKING = False\nimport registry_acme.modeling")],
    ),
    "saves another model_type": (
        "test_entry_points_are_the_names_that_folders_use",
        [(_CONFIG, 'ClassVar[str] = "acme"', 'ClassVar[str] = "acme-2"')],
    ),
    "misspells a class": ("test_every_class_is_where_the_plugin_says", [(_PLUGIN, '"AcmeForMaskedLM"', '"AcmeForMaskedLm"')]),
    "has a tokenizer of its own kind": (
        "test_every_class_is_where_the_plugin_says",
        [
            (_PLUGIN, "tokenization:AcmeTokenizer", "tokenization:Own"),
            (_TOKENIZATION, "def _read_vocabulary", "class Own: ...\n\n\ndef _read_vocabulary"),
        ],
    ),
    "names a model of a head that it does not have": (
        "test_catalog_is_valid",
        [("models.yaml", "models: {}", "models:\n  a: {family: acme, head: tagging, source: hf://acme/a@main}")],
    ),
    "names a model of a family that nobody has": (
        "test_catalog_is_valid",
        [("models.yaml", "models: {}", "models:\n  a: {family: acne, source: hf://acme/a@main}")],
    ),
    "has a models.yaml with an unknown key": (
        "test_catalog_is_valid",
        [("models.yaml", "models: {}", "models:\n  a: {family: acme, sauce: hf://acme/a@main}")],
    ),
    "refuses small sizes": (
        "test_config_takes_the_sizes",
        [(_CONFIG, "self.hidden_size % 2 == 0", "self.hidden_size >= 64")],
    ),
    "loses a key": (
        "test_config_survives_its_json_file",
        [
            (
                _CONFIG,
                "    def validate(",
                "    def to_dict(self):\n"
                "        return {k: v for k, v in super().to_dict().items() if k != 'initializer_range'}\n\n"
                "    def validate(",
            )
        ],
    ),
    "drops what it does not know": (
        "test_config_keeps_what_other_programs_wrote",
        [
            (
                _CONFIG,
                "    def validate(",
                "    @classmethod\n    def from_dict(cls, data):\n"
                "        return super().from_dict({k: v for k, v in data.items() if k in cls.field_names()})\n\n"
                "    def validate(",
            )
        ],
    ),
    "takes any argument": (
        "test_config_refuses_arguments_that_are_no_fields",
        [
            (
                _CONFIG,
                "    def validate(",
                "    @classmethod\n    def check_names(cls, names):\n"
                "        for name in names.keys() - cls.field_names():\n            del names[name]\n\n"
                "    def validate(",
            )
        ],
    ),
    "computes a buffer in its constructor": (
        "test_constructor_gives_no_values",
        [
            (
                _MODELING,
                "config.hidden_size)\n        self.register_buffer",
                "config.hidden_size, device='cpu')\n        self.register_buffer",
            )
        ],
    ),
    "forgets reset_buffers": ("test_new_model_has_values", [(_MODELING, "def reset_buffers", "def fill_buffers")]),
    "does not say what it ties": (
        "test_ties_are_declared",
        [
            (_MODELING, '{"decoder.weight": "encoder.embeddings.weight"} if self.config.tie_word_embeddings else {}', "{}"),
            (
                _MODELING,
                "vocab_size, bias=False)",
                "vocab_size, bias=False)\n        self.decoder.weight = self.encoder.embeddings.weight",
            ),
        ],
    ),
    "unties": (
        "test_ties_hold",
        [
            (
                _MODELING,
                "    def tied_weights(",
                "    def tie_weights(self):\n"
                "        self.decoder.weight = nn.Parameter(self.encoder.embeddings.weight.detach().clone())\n\n"
                "    def tied_weights(",
            )
        ],
    ),
    "unties when it is resized": (
        "test_ties_hold",
        [
            (
                _MODELING,
                "    def tied_weights(",
                "    def resize_token_embeddings(self, new_num_tokens=None):\n"
                "        found = super().resize_token_embeddings(new_num_tokens)\n"
                "        self.decoder.weight = nn.Parameter(self.encoder.embeddings.weight.detach().clone())\n"
                "        return found\n\n"
                "    def tied_weights(",
            )
        ],
    ),
    "drops out in evaluation": (
        "test_evaluation_repeats_itself",
        [(_MODELING, "widened = F.gelu(", "widened = F.dropout(hidden).sum() + F.gelu(")],
    ),
    "returns a tuple": (
        "test_output_has_names_and_places",
        [
            (
                _MODELING,
                "loss = None if labels is None else classification_loss(logits, labels)\n        return ClassifierOutput(",
                "loss = None\n        return (",
            )
        ],
    ),
    "insists on float32": ("test_bfloat16", [(_MODELING, "[:length].to(words.dtype)", "[:length]")]),
    "forgets what it has read": (
        "test_generation_equals_reading_everything_again",
        [
            (_PLUGIN, '"masked-lm": _MODELS', '"lm": _MODELS + "AcmeForLM",\n            "masked-lm": _MODELS'),
            (_MODELING, "", _GENERATES.replace("STEP", "state[:] = [input_ids]")),
        ],
    ),
    "draws a buffer at random": (
        "test_saved_model_reloads_bit_for_bit",
        [(_MODELING, "inner.positions = sinusoids(", "inner.positions = torch.rand(()) * sinusoids(")],
    ),
    "cannot save a shard": (
        "test_shards_reload_bit_for_bit",
        [
            (
                _MODELING,
                "    def reset_buffers(",
                "    def save_pretrained(self, folder, **options):\n        super().save_pretrained(folder)\n\n"
                "    def reset_buffers(",
            )
        ],
    ),
    "calls the base by two names": (
        "test_head_takes_over_the_base",
        [
            (
                _MODELING,
                'first token; with one label it predicts a number."""\n',
                'first token; with one label it predicts a number."""\n\n    base_model_prefix = "body"\n',
            ),
            (
                _MODELING,
                "        self.encoder = AcmeModel(config)\n        self.dropout",
                "        self.body = AcmeModel(config)\n        self.dropout",
            ),
            (
                _MODELING,
                'name."""\n        return ("encoder.embeddings.weight",)',
                'name."""\n        return ("body.embeddings.weight",)',
            ),
            (
                _MODELING,
                "encoded = self.encoder(input_ids, **inputs)\n        logits = self.classifier",
                "encoded = self.body(input_ids, **inputs)\n        logits = self.classifier",
            ),
        ],
    ),
    "hides what it does not load": (
        "test_report_names_weights_that_no_parameter_takes",
        [(_MODELING, "    config: AcmeConfig\n", '    config: AcmeConfig\n    derivable_weights = (".weight",)\n')],
    ),
    "needs no weights": (
        "test_missing_base_weights_are_refused",
        [(_MODELING, "    config: AcmeConfig\n", '    config: AcmeConfig\n    optional_weights = ("",)\n')],
    ),
    "takes the caller's dtype": ("test_torch_defaults_decide_nothing", [(_MODELING, ", dtype=torch.float32)", ")")]),
    "names a vocabulary's file that it does not write": (
        "test_tokenizer_is_built_from_its_vocabulary",
        [(_PLUGIN, '("vocab.txt",)', '("words.txt",)')],
    ),
    "always lower-cases": ("test_tokenizer_gives_the_text_back", [(_TOKENIZATION, "if do_lower_case:", "if True:")]),
    "forgets a setting": (
        "test_saved_tokenizer_reloads",
        [(_TOKENIZATION, 'settings={"do_lower_case": do_lower_case}', "settings={}")],
    ),
    "returns no paths": (
        "test_vocabulary_is_saved_by_itself",
        [(_TOKENIZATION, "return (str(target),)", "return (target.name,)")],
    ),
    "reads a file that the plugin does not name": (
        "test_lock_file_holds_all_that_is_needed",
        [
            (
                _TOKENIZATION,
                "        vocabulary = _read_vocabulary(Path(vocab_file))",
                "        vocabulary = _read_vocabulary(Path(vocab_file))\n"
                "        Path(vocab_file).with_name('sounds.txt').read_text()",
            ),
            (_TOKENIZATION, "return (str(target),)", "target.with_name('sounds.txt').touch()\n        return (str(target),)"),
            ("../../tests/test_conformance.py", 'vocabulary = {"', 'vocabulary = {"sounds.txt": "", "'),
        ],
    ),
    "has a lock in its configuration": (
        "test_config_and_tokenizer_pickle",
        [
            (
                _CONFIG,
                "    def validate(self) -> None:",
                "    def __post_init__(self):\n        import threading\n\n"
                "        super().__post_init__()\n        object.__setattr__(self, 'guard', threading.Lock())\n\n"
                "    def validate(self) -> None:",
            )
        ],
    ),
    "works in the first process only": (
        "test_spawned_process_loads_the_same",
        [
            (
                _CONFIG,
                "@dataclass(kw_only=True)",
                "import multiprocessing\n\nassert multiprocessing.parent_process() is None\n\n\n@dataclass(kw_only=True)",
            )
        ],
    ),
    "builds one model at a time": (
        "test_threads_load_at_once",
        [
            (
                _MODELING,
                "        self.embeddings = Embedding(",
                "        import time\n\n        cls = type(self)\n        assert not getattr(cls, 'building', False)\n"
                "        cls.building = True\n        time.sleep(0.05)\n        cls.building = False\n"
                "        self.embeddings = Embedding(",
            )
        ],
    ),
}
_SLOW = ("test_spawned_process_loads_the_same",)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of a sound family `acme`, on the import path with its metadata."""
    before = set(sys.modules)
    folder = write_package("acme", tmp_path)
    info = folder / "src" / "registry_acme-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: registry-acme\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[registry.families]\nacme = registry_acme.plugin\n")
    monkeypatch.syspath_prepend(folder / "src")
    importlib.invalidate_caches()
    yield folder
    for name in set(sys.modules) - before:
        # The package, and its test module: a later package's own would be taken from here.
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


class _Outcomes:
    """What became of each check, without its head."""

    def __init__(self) -> None:
        self.of: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
        self.texts: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.of[report.outcome].add(report.nodeid.split("::")[-1].split("[")[0])
            self.texts.append(f"{report.nodeid} {report.outcome}: {report.longreprtext}")


def run(package: Path, *arguments: str) -> _Outcomes:
    """Run a package's conformance test as its author does."""
    outcomes = _Outcomes()
    file = package / "tests" / "test_conformance.py"
    command = [str(file), f"--rootdir={package}", "-q", "-p", "no:cacheprovider", "-p", "no:timeout", *arguments]
    command += ["-p", "no:unraisableexception"]  # what is collected meanwhile is the outer run's
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(command, plugins=[outcomes])
    return outcomes


def edit(package: Path, edits: list[tuple[str, str, str]]) -> None:
    """Change the package's files; an edit of nothing is added at the end."""
    for name, old, new in edits:
        file = package / "src" / "registry_acme" / name
        text = file.read_text()
        assert old in text, f"{name} has no {old!r} any more"
        file.write_text(text.replace(old, new) if old else text + new)


def checks() -> set[str]:
    return {name for name in dir(FamilySuite) if name.startswith("test_")}


def without_slow(*kept: str) -> list[Any]:
    return ["-k", " and ".join(f"not {name}" for name in _SLOW if name not in kept)] if set(_SLOW) - set(kept) else []


def test_every_check_has_a_family_that_fails_it() -> None:
    assert {check for check, _ in BROKEN.values()} == checks()


@pytest.mark.slow
@pytest.mark.parametrize("mistake", BROKEN)
def test_a_mistake_is_the_failure_of_its_check_alone(mistake: str, package: Path) -> None:
    check, edits = BROKEN[mistake]
    edit(package, edits)
    outcomes = run(package, *without_slow(check))
    assert outcomes.of["failed"] == {check}, "\n".join(outcomes.texts)


def test_a_check_that_needs_a_broken_part_names_the_check_that_fails(package: Path) -> None:
    edit(package, BROKEN["forgets reset_buffers"][1])
    outcomes = run(package, "-k", "base and (new_model or bfloat16)")
    assert outcomes.of == {"passed": set(), "failed": {"test_new_model_has_values"}, "skipped": {"test_bfloat16"}}
    assert any("needs test_new_model_has_values, which fails: PluginError: [R301] buffer" in text for text in outcomes.texts)


def test_a_check_fails_by_itself_where_the_one_that_it_needs_does_not_run(package: Path) -> None:
    edit(package, BROKEN["forgets reset_buffers"][1])
    outcomes = run(package, "-k", "base and bfloat16")
    assert outcomes.of["failed"] == {"test_bfloat16"} and not outcomes.of["skipped"]


@pytest.mark.slow
def test_the_template_and_a_head_that_generates_pass(package: Path) -> None:
    plugin, modeling = BROKEN["forgets what it has read"][1]
    edit(package, [plugin, (*modeling[:2], _GENERATES.replace("STEP", "state.append(input_ids)"))])
    outcomes = run(package)
    assert not outcomes.of["failed"], "\n".join(outcomes.texts)
    assert checks() <= outcomes.of["passed"]
