"""Transformer-XL (arXiv:1901.02860) for the model registry. Every name is imported when it is first used."""

from registry.base.lazy import lazy_names

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

__getattr__ = lazy_names(
    __name__,
    __all__,
    {
        "LMMultiFileIterator": "iterators",
        "LMOrderedIterator": "iterators",
        "LMShuffledIterator": "iterators",
        "TransfoXLConfig": "config",
        "TransfoXLCorpus": "corpus",
        "TransfoXLTokenizer": "tokenization",
    },
)
