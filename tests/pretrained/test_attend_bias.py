from __future__ import annotations

import torch

from registry.pretrained.layers import attend


def test_a_bias_is_added_to_the_scores_with_and_without_weights() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    bias, keep = torch.randn(2, 3, 4, 5), torch.ones(4, 5, dtype=torch.bool).tril()
    for mask in (None, keep):
        scores = torch.einsum("bnqd,bnkd->bnqk", query, key) / 8**0.5 + bias
        expected = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)
        fused, _ = attend(query, key, value, mask, bias=bias)
        explicit, weights = attend(query, key, value, mask, bias=bias, need_weights=True)
        torch.testing.assert_close(weights, expected)
        for result in (fused, explicit):
            torch.testing.assert_close(result, expected @ value)
