"""What the registry needs to know of OpenAI GPT before any of it is used."""

from registry import Family, hookimpl

REGISTRY_API = 1

_MODELS = "registry_gpt.modeling:"


@hookimpl
def registry_family() -> Family:
    """Return the description of the family."""
    return Family(
        name="gpt",
        config="registry_gpt.config:OpenAIGPTConfig",
        heads={
            "base": _MODELS + "OpenAIGPTModel",
            "lm": _MODELS + "OpenAIGPTLMHeadModel",
            "double-heads": _MODELS + "OpenAIGPTDoubleHeadsModel",
        },
        default_head="lm",
        tokenizer="registry_gpt.tokenization:OpenAIGPTTokenizer",
        classes=(_MODELS + "OpenAIGPTPreTrainedModel",),
        files={
            "weights": ("model.safetensors", "pytorch_model.bin"),
            "config": ("config.json", "openai_gpt_config.json"),
            # transformers 5 saves neither any more; its tokenizer.json holds both. The last ones are OpenAI's own names.
            "vocab": ("vocab.json", "tokenizer.json", "encoder_bpe_40000.json"),
            "merges": ("merges.txt", "tokenizer.json", "vocab_40000.bpe"),
        },
        converters={"numpy": "registry_gpt.convert:load_numpy_weights"},
    )
