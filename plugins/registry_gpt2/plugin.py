"""What the registry needs to know of GPT-2 before any of it is used."""

from registry import Family, hookimpl

REGISTRY_API = 1

_MODELS = "registry_gpt2.modeling:"


@hookimpl
def registry_family() -> Family:
    """Return the description of the family."""
    return Family(
        name="gpt2",
        config="registry_gpt2.config:GPT2Config",
        heads={
            "base": _MODELS + "GPT2Model",
            "lm": _MODELS + "GPT2LMHeadModel",
            "double-heads": _MODELS + "GPT2DoubleHeadsModel",
        },
        default_head="lm",
        tokenizer="registry_gpt2.tokenization:GPT2Tokenizer",
        classes=(_MODELS + "GPT2PreTrainedModel",),
        files={
            "weights": ("model.safetensors", "pytorch_model.bin"),
            # The last ones of each are the names in OpenAI's own release.
            "config": ("config.json", "hparams.json"),
            # transformers 5 saves neither any more; its tokenizer.json holds both.
            "vocab": ("vocab.json", "tokenizer.json", "encoder.json"),
            "merges": ("merges.txt", "tokenizer.json", "vocab.bpe"),
        },
        converters={"tensorflow": "registry_gpt2.convert:load_tf_weights"},
    )
