"""Google's TensorFlow checkpoints of BERT as tensors here: those of its release, and of its own fine-tuning programs.

Names: https://github.com/google-research/bert, modeling.py, run_pretraining.py, run_classifier.py and run_squad.py.
"""

from __future__ import annotations

from registry.checkpoint.name_table import Renamed, Rule
from registry.checkpoint.tensors import Checkpoint
from registry_bert.config import BertConfig

__all__ = ["TENSORFLOW", "load_tf_weights"]

_LAYER, _OURS = r"bert/encoder/layer_(\d+)/", r"bert.encoder.layer.\1."


def _linear(theirs: str, ours: str) -> tuple[Rule, ...]:
    return Rule(f"{theirs}/kernel", f"{ours}.weight", "transposed"), Rule(f"{theirs}/bias", f"{ours}.bias")


def _norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    return Rule(f"{theirs}/gamma", f"{ours}.weight"), Rule(f"{theirs}/beta", f"{ours}.bias")


def _output(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the rules of a head whose weights stand as (labels, hidden), as here."""
    return Rule(f"{theirs}output_weights", f"{ours}.weight"), Rule(f"{theirs}output_bias", f"{ours}.bias")


TENSORFLOW = (
    Rule(r"bert/embeddings/(word|position|token_type)_embeddings", r"bert.embeddings.\1_embeddings.weight"),
    *_norm("bert/embeddings/LayerNorm", "bert.embeddings.LayerNorm"),
    *_linear(_LAYER + "attention/self/(query|key|value)", _OURS + r"attention.self.\2"),
    *_linear(_LAYER + "attention/output/dense", _OURS + "attention.output.dense"),
    *_norm(_LAYER + "attention/output/LayerNorm", _OURS + "attention.output.LayerNorm"),
    *_linear(_LAYER + "intermediate/dense", _OURS + "intermediate.dense"),
    *_linear(_LAYER + "output/dense", _OURS + "output.dense"),
    *_norm(_LAYER + "output/LayerNorm", _OURS + "output.LayerNorm"),
    *_linear("bert/pooler/dense", "bert.pooler.dense"),
    *_linear("cls/predictions/transform/dense", "cls.predictions.transform.dense"),
    *_norm("cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm"),
    Rule("cls/predictions/output_bias", "cls.predictions.bias"),
    *_output("cls/seq_relationship/", "cls.seq_relationship"),
    *_output("cls/squad/", "qa_outputs"),
    *_output("", "classifier"),
)


def load_tf_weights(checkpoint: Checkpoint, config: BertConfig) -> Renamed:
    """Return a TensorFlow checkpoint under the names of `BertForPreTraining`, or of the class with its fine-tuned head.

    Args:
        checkpoint: of TensorFlow.
        config: of the model; no name depends on it.
    """
    return Renamed(checkpoint, TENSORFLOW)
