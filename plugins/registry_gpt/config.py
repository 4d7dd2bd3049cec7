"""The configuration of OpenAI GPT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from registry.errors import ConfigError
from registry.pretrained.causal_config import CausalConfig
from registry.pretrained.config import MAX_INT, shown

__all__ = ["ACTIVATION_NAMES", "OpenAIGPTConfig"]

#: What `afn` may be, to the name in `registry.pretrained.layers.ACTIVATIONS`: in this family `gelu` is the tanh form.
ACTIVATION_NAMES = {"gelu": "gelu_new", "gelu_new": "gelu_new", "relu": "relu", "silu": "silu", "swish": "swish"}


@dataclass(kw_only=True)
class OpenAIGPTConfig(CausalConfig):
    """Sizes and rates of OpenAI GPT; the defaults are those of `openai-gpt`."""

    model_type: ClassVar[str] = "openai-gpt"

    vocab_size: int = 40478
    n_positions: int = 512
    #: The activation, `gelu` (its tanh form), `relu`, or `swish`, which is also `silu`.
    afn: str = "gelu"
    predict_special_tokens: bool = True

    def validate(self) -> None:
        """Refuse what this implementation would compute wrongly or not at all."""
        super().validate()
        self.require(self.afn in ACTIVATION_NAMES, "afn", f"one of {', '.join(ACTIVATION_NAMES)}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from the content of a config.json; release 0.6 counted tokens that a user added apart, in `n_special`."""
        if special := data.get("n_special"):
            size = data.get("vocab_size", cls.vocab_size)
            if type(special) is not int or not 0 <= special <= MAX_INT:
                raise ConfigError(
                    f"n_special of {cls.__name__} is expected to be from 0 to {MAX_INT:,}, but is {shown(special)}"
                )
            if type(size) is int:  # else it is named as wrong below
                data = {**data, "vocab_size": size + special, "n_special": 0}
        return super().from_dict(data)
