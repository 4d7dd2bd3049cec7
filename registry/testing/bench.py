"""What the checks of one suite share. Each part is made once, and whatever fails is the failure of one check."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from registry.families.family import API_VERSION, Family
from registry.model_registry import ModelRegistry
from registry.testing.case import Case

if TYPE_CHECKING:
    from torch import Tensor

    from registry.testing.suite import FamilySuite

__all__ = ["Bench", "differing", "leaves", "same", "ties_apart"]

_Made = TypeVar("_Made")


class Bench:
    """The family under test with its small models, each made when a check first needs it.

    A part belongs to one check, which fails with whatever making it raises. The other checks that need it are skipped and
    name that check: a family with one mistake gets one failure. Where the owner does not run, whoever needs the part fails.
    """

    def __init__(self, suite: type[FamilySuite], folder: Path, selected: frozenset[str]) -> None:
        """Set up for a suite; `folder` is for saved models, `selected` are the names of its checks that run."""
        self.suite = suite
        self.folder = folder
        self.registry = ModelRegistry()
        #: The check that runs now.
        self.check = ""
        self._selected = selected
        self._made: dict[tuple[str, ...], tuple[Any, Exception | None]] = {}

    def _once(self, owner: str, key: tuple[str, ...], make: Callable[[], _Made]) -> _Made:
        if key not in self._made:
            try:
                self._made[key] = make(), None
            except Exception as error:
                self._made[key] = None, error
        value, failure = self._made[key]
        if failure is not None:
            if self.check == owner or owner not in self._selected:
                raise failure
            pytest.skip(f"needs {owner}, which fails: {type(failure).__name__}: {failure}")
        made: _Made = value
        return made

    # -- the plugin ----------------------------------------------------------------------------------------------------

    def module(self) -> ModuleType:
        """Return the plugin module that the entry point names."""

        def make() -> ModuleType:
            points = self.registry.families.entry_points().get(self.suite.family)
            assert points, (
                f"family {self.suite.family!r} is expected to be an entry point of group 'registry.families', but is none; "
                "install the package (pip install -e .) and look at the name"
            )
            return import_module(points[0].value.split(":")[0])

        return self._once("test_plugin_imports", ("module",), make)

    def contract(self) -> int:
        """Return the version of the contract that the plugin states."""

        def make() -> int:
            module = self.module()
            version = getattr(module, "REGISTRY_API", None)
            assert isinstance(version, int) and not isinstance(version, bool) and 1 <= version <= API_VERSION, (
                f"REGISTRY_API of {module.__name__} is expected to be {API_VERSION}, but is {version!r}"
            )
            return version

        return self._once("test_plugin_states_the_version_of_the_contract", ("contract",), make)

    def family(self) -> Family:
        """Return what the plugin says of its family."""

        def make() -> Family:
            self.contract()
            return self.registry.families.get(self.suite.family)

        return self._once("test_plugin_describes_its_family", ("family",), make)

    def load_class(self, path: str, base: type) -> Any:
        """Return the class at a path, which builds on one of the registry's."""

        def make() -> Any:
            found = self.family().load_class(path)
            assert isinstance(found, type) and issubclass(found, base), (
                f"{path} is expected to be a class on top of registry.pretrained.{base.__name__}, but is {found!r}"
            )
            return found

        return self._once("test_every_class_is_where_the_plugin_says", ("class", path), make)

    def config_class(self) -> Any:
        """Return the configuration's class."""
        from registry.pretrained import PretrainedConfig

        return self.load_class(self.family().config, PretrainedConfig)

    def model_class(self, head: str) -> Any:
        """Return a head's class."""
        from registry.pretrained import PreTrainedModel

        return self.load_class(self.family().head_path(head), PreTrainedModel)

    def tokenizer_class(self) -> Any:
        """Return the tokenizer's class; skips where there is none."""
        from registry.pretrained import PreTrainedTokenizer

        path = self.family().tokenizer
        if path is None:
            pytest.skip(f"family {self.suite.family!r} has no tokenizer")
        return self.load_class(path, PreTrainedTokenizer)

    def findable(self) -> None:
        """Make sure that the family is found by its own name and by the `model_type` that its saved folders state."""

        def make() -> None:
            family, module = self.family(), self.module().__name__
            points = self.registry.families.entry_points()
            model_type = self.config_class().model_type
            assert model_type, f"model_type of {family.config} is expected to be set, or folders do not tell their family"
            for what, name in (("name", family.name), ("model_type", model_type)):
                modules = [point.value.split(":")[0] for point in points.get(name, ())]
                assert modules[:1] == [module], (
                    f"{what} {name!r} of the family is expected to be an entry point of {module!r}, but leads to "
                    f"{modules or 'nothing'}; add it to group 'registry.families'"
                )

        self._once("test_entry_points_are_the_names_that_folders_use", ("findable",), make)

    # -- models --------------------------------------------------------------------------------------------------------

    def case(self, head: str) -> Case:
        """Return how a head is run."""
        return self.suite.cases.get(head, Case())

    def config(self, head: str) -> Any:
        """Return a new configuration of a head's size."""

        def make() -> Any:
            return self.config_class()(**{**self.suite.config, **self.case(head).config})

        return self._once("test_config_takes_the_sizes", ("config", head), make).replace()

    def meta_model(self, head: str) -> Any:
        """Return a model without values, whose shared weights `tied_weights` declares."""
        import torch

        def make() -> Any:
            with torch.device("meta"):
                model = self.model_class(head)(self.config(head))
            declared = model.tied_weights()
            first: dict[int, str] = {}
            shared = {}
            for name, parameter in model.named_parameters(remove_duplicate=False):
                main = first.setdefault(id(parameter), name)
                if main != name and name not in declared and main not in declared:
                    shared[name] = main
            assert not shared, (
                f"weights that {type(model).__name__} shares are expected to be in tied_weights, but these are not: {shared}"
            )
            return model

        return self._once("test_ties_are_declared", ("meta", head), make)

    def new_model(self, head: str) -> Any:
        """Return a new model in evaluation mode; every parameter, zeros and ones too, is a little different from any other."""
        import torch

        def make() -> Any:
            self.meta_model(head)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(7)
                model = self.model_class(head)(self.config(head))
                with torch.no_grad():
                    for parameter in model.parameters():
                        if parameter.is_floating_point():
                            parameter.add_(torch.randn_like(parameter) * 0.1)
            return model.eval()

        return self._once("test_new_model_has_values", ("new", head), make)

    def ties(self, head: str) -> dict[str, str]:
        """Return the ties of a head's new model, which are one parameter each."""

        def make() -> dict[str, str]:
            model = self.new_model(head)
            apart = ties_apart(model)
            assert not apart, (
                f"tied weights of a new {type(model).__name__} are expected to be one parameter, but are two: {apart}"
            )
            return dict(model.tied_weights())

        return self._once("test_ties_hold", ("ties", head), make)

    def saved(self, head: str) -> Path:
        """Return the folder of a head's new model."""

        def make() -> Path:
            self.findable()
            self.ties(head)
            folder = self.folder / f"saved-{head}"
            self.new_model(head).save_pretrained(folder)
            return folder

        return self._once("test_saved_model_reloads_bit_for_bit", ("saved", head), make)

    def loaded(self, head: str) -> Any:
        """Return the model of that folder, whose own files say what it is."""

        def make() -> Any:
            model = self.registry.load(self.saved(head), strict=True)
            assert type(model) is self.model_class(head), (
                f"a saved {self.model_class(head).__name__} is expected to load as such, but is a {type(model).__name__}; "
                "each class is the class of one head"
            )
            return model

        return self._once("test_saved_model_reloads_bit_for_bit", ("loaded", head), make)

    def reloaded(self, head: str) -> Any:
        """Return the loaded model, known to be the one that was saved."""

        def make() -> Any:
            new, loaded = self.new_model(head), self.loaded(head)
            wrong = differing(new, loaded)
            assert not wrong, f"weights are expected to be those that were saved, but these differ: {wrong}"
            assert not loaded.training, "a loaded model is expected to be in evaluation mode"
            assert same(self.run(loaded, head), self.output(head)), (
                f"a reloaded {type(new).__name__} is expected to give the output of the saved one, but does not, though all "
                "weights are equal; look at reset_buffers, and at what the constructor draws at random"
            )
            return loaded

        return self._once("test_saved_model_reloads_bit_for_bit", ("reloaded", head), make)

    def inputs(self, head: str) -> dict[str, Tensor]:
        """Return what a head's forward pass takes."""
        return self.case(head).make_inputs(self.config(head))

    def run(self, model: Any, head: str) -> Any:
        """Return what a model makes of the inputs."""
        import torch

        with torch.no_grad():
            return model(**self.inputs(head))

    def output(self, head: str) -> Any:
        """Return what a new model makes of the inputs."""

        def make() -> Any:
            model = self.new_model(head)
            first, second = self.run(model, head), self.run(model, head)
            assert same(first, second), (
                f"{type(model).__name__} is expected to give the same output for the same input in evaluation mode, but does "
                "not; let dropout depend on self.training, and keep no state from one call to the next"
            )
            return first

        return self._once("test_evaluation_repeats_itself", ("output", head), make)

    # -- the tokenizer -------------------------------------------------------------------------------------------------

    def vocabulary(self) -> Path:
        """Return a folder with the files of the suite's vocabulary; skips where there is nothing to check."""
        self.tokenizer_class()
        if not self.suite.vocabulary:
            pytest.skip("the suite has no vocabulary: set `vocabulary` to the files' contents by name to check the tokenizer")
        folder = self.folder / "vocabulary"
        folder.mkdir(exist_ok=True)
        for name, content in self.suite.vocabulary.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    def tokenizer(self) -> Any:
        """Return the tokenizer of the suite's vocabulary."""

        def make() -> Any:
            return self.registry.load_tokenizer(self.vocabulary(), family=self.suite.family, **self.suite.tokenizer)

        return self._once("test_tokenizer_is_built_from_its_vocabulary", ("tokenizer",), make)

    def saved_tokenizer(self) -> Path:
        """Return the folder of a saved tokenizer, known to be the same when it is loaded."""

        def make() -> Path:
            tokenizer, folder = self.tokenizer(), self.folder / "saved-tokenizer"
            tokenizer.save_pretrained(folder)
            again = self.registry.load_tokenizer(folder, family=self.suite.family)
            assert type(again) is type(tokenizer)
            assert len(again) == len(tokenizer)
            assert again.special_tokens_map == tokenizer.special_tokens_map
            for text in self.suite.texts:
                for texts in ((text, None), (text, text)):
                    assert again.encode(*texts) == tokenizer.encode(*texts), (
                        f"ids of {text!r} are expected to survive saving, but do not; give every setting to "
                        "PreTrainedTokenizer.__init__(settings=) and name it in settings_names"
                    )
            return folder

        return self._once("test_saved_tokenizer_reloads", ("saved tokenizer",), make)


def differing(first: Any, second: Any) -> list[str]:
    """Return the names of what is not the same in two models' weights, bit for bit."""
    import torch

    one, other = first.state_dict(), second.state_dict()
    wrong = set(one) ^ set(other)
    wrong |= {n for n in set(one) & set(other) if one[n].dtype != other[n].dtype or not torch.equal(one[n], other[n])}
    return sorted(wrong)


def ties_apart(model: Any) -> dict[str, str]:
    """Return those tied names that are another parameter than their main name."""
    tied = model.tied_weights().items()
    named = dict(model.named_parameters(remove_duplicate=False))
    return {name: main for name, main in tied if name in named and named[name] is not named[main]}


def leaves(output: Any) -> list[Tensor]:
    """Return the tensors of an output of any form, in its order."""
    import torch
    from torch.utils import _pytree

    return [leaf for leaf in _pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def same(first: Any, second: Any) -> bool:
    """Whether two outputs have the same tensors, bit for bit; nan equals nothing."""
    import torch

    one, other = leaves(first), leaves(second)
    return len(one) == len(other) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))
