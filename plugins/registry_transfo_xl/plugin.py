"""What the registry needs to know of Transformer-XL before any of it is used."""

from registry import Family, hookimpl

REGISTRY_API = 1

_MODELS = "registry_transfo_xl.modeling:"


@hookimpl
def registry_family() -> Family:
    """Return the description of the family."""
    return Family(
        name="transfo-xl",
        config="registry_transfo_xl.config:TransfoXLConfig",
        heads={"base": _MODELS + "TransfoXLModel", "lm": _MODELS + "TransfoXLLMHeadModel"},
        default_head="lm",
        tokenizer="registry_transfo_xl.tokenization:TransfoXLTokenizer",
        classes=(
            _MODELS + "TransfoXLPreTrainedModel",
            "registry_transfo_xl.corpus:TransfoXLCorpus",
            "registry_transfo_xl.iterators:LMMultiFileIterator",
            "registry_transfo_xl.iterators:LMOrderedIterator",
            "registry_transfo_xl.iterators:LMShuffledIterator",
        ),
        files={
            "weights": ("model.safetensors", "pytorch_model.bin"),
            "config": ("config.json",),
            # Ours, the one on the hub that is no pickle, then the pickles of 2019 and of transformers 4.
            "vocab": ("vocab.txt", "vocab.json", "vocab.bin", "vocab.pkl"),
        },
        converters={"tensorflow": "registry_transfo_xl.convert:load_tf_weights"},
    )
