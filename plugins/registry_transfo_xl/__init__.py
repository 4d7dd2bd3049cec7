"""Transformer-XL (arXiv:1901.02860) for the model registry. Every name is imported when it is first used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from registry_transfo_xl.config import TransfoXLConfig
    from registry_transfo_xl.corpus import TransfoXLCorpus
    from registry_transfo_xl.iterators import LMMultiFileIterator, LMOrderedIterator, LMShuffledIterator
    from registry_transfo_xl.modeling import TransfoXLLMHeadModel, TransfoXLModel, TransfoXLPreTrainedModel
    from registry_transfo_xl.tokenization import TransfoXLTokenizer

__all__ = [
    "LMMultiFileIterator",
    "LMOrderedIterator",
    "LMShuffledIterator",
    "TransfoXLConfig",
    "TransfoXLCorpus",
    "TransfoXLLMHeadModel",
    "TransfoXLModel",
    "TransfoXLPreTrainedModel",
    "TransfoXLTokenizer",
]

_HOMES = {
    "LMMultiFileIterator": "iterators",
    "LMOrderedIterator": "iterators",
    "LMShuffledIterator": "iterators",
    "TransfoXLConfig": "config",
    "TransfoXLCorpus": "corpus",
    "TransfoXLTokenizer": "tokenization",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'modeling')}"), name)
