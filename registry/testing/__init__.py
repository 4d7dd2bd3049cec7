"""The conformance suite: what every family is held to, in ten lines of a plugin's own tests.

    from registry.testing import FamilySuite

    class TestAcme(FamilySuite):
        family = "acme"
        config = {"vocab_size": 9, "hidden_size": 16}
        vocabulary = {"vocab.txt": "[PAD]\\n[UNK]\\nhello\\n"}
        texts = ["hello"]

pytest collects the inherited checks, each named for a behaviour. This package needs pytest; nothing else of the registry does.
"""

import pytest

# A failing check of the suite shows values, as one of the author's own does. Only modules that are not imported yet can.
_CHECKS = ("bench", "config_checks", "file_checks", "model_checks", "plugin_checks", "process_checks", "tokenizer_checks")
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _CHECKS))

from registry.testing.case import Case  # noqa: E402  # after the lines above, or it would come too late
from registry.testing.suite import FamilySuite  # noqa: E402

__all__ = ["Case", "FamilySuite"]
