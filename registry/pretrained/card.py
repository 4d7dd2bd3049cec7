"""The model card of a saved folder: what is known of the model, and how it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import CheckpointError
from registry.pretrained.from_pretrained import head_of

if TYPE_CHECKING:
    from registry.pretrained.model import PreTrainedModel

__all__ = ["write_card"]

_NAME = "README.md"
#: By this a card that may be replaced is told from one that somebody wrote.
_MARK = "<!-- written by pretrained-registry: save_pretrained(model_card=True) replaces this file -->"
#: Heads, and the hub's names of what they do (https://huggingface.co/tasks).
_TASKS = {
    "base": "feature-extraction",
    "masked-lm": "fill-mask",
    "lm": "text-generation",
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
    "multiple-choice": "multiple-choice",
    "question-answering": "question-answering",
}


def write_card(model: PreTrainedModel, stage: Path, folder: Path) -> None:
    """Write a model's card into `stage`, from where it goes into `folder`.

    Raises:
        CheckpointError: when the folder has a card that somebody wrote.
    """
    there = folder / _NAME
    if there.exists() and _MARK not in there.read_text(encoding="utf-8", errors="replace"):
        raise CheckpointError(
            f"{str(there)!r} is expected to be a card that was written here, but is somebody's own; "
            "leave model_card out to keep it, or move it away",
            path=str(there),
        )
    (stage / _NAME).write_text(_card(model, folder.resolve().name), encoding="utf-8")


def _card(model: PreTrainedModel, name: str) -> str:
    architecture, family, path = model.own_class.__name__, model.config.model_type, f"./{name}"
    task = _TASKS.get(head_of(model) or "")
    lines = ["---", "library_name: pretrained-registry"]
    lines += [f"pipeline_tag: {task}"] if task else []
    lines += ["tags:", f"- {json.dumps(family)}", "---", _MARK, "", f"# {name}", ""]
    lines += [f"- family: {family}", f"- architecture: {architecture}", f"- parameters: {model.num_parameters():,}"]
    lines += [f"- dtype: {str(model.dtype).removeprefix('torch.')}", ""]
    lines += ["```python", "import registry", "", f"model = registry.load({path!r})", "```"]
    if not model.config.pruned_heads:  # those it cannot open
        lines += ["", "Where `transformers` has this architecture:", "", "```python"]
        lines += [f"from transformers import {architecture}", "", f"model = {architecture}.from_pretrained({path!r})", "```"]
    return "\n".join([*lines, ""])
