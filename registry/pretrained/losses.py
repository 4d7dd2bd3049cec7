"""Losses as 1.2.0 defined them, with labels that are all ignored giving 0 instead of nan."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["class_loss", "classification_loss", "masked_labels", "next_token_loss", "span_loss"]

_IGNORED = -100


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy over labels that are not ignored (-1 or -100), in float32; 0 when all are.

    Args:
        logits: `(..., classes)`.
        labels: int64 `(...)`; never modified.
    """
    flat = labels.reshape(-1)
    flat = flat.masked_fill(flat == -1, _IGNORED)
    total = F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), flat, ignore_index=_IGNORED, reduction="sum")
    return total / (flat != _IGNORED).sum().clamp(min=1)


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error for a single label, which is a regression target, else the cross entropy.

    Args:
        logits: `(batch, labels)`.
        labels: `(batch,)`, float for regression and int64 for classes.
    """
    if logits.shape[-1] == 1:
        return F.mse_loss(logits.reshape(-1), labels.reshape(-1).to(logits.dtype))
    return class_loss(logits, labels)


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of predicting each token from those before it: labels are the inputs, shifted here.

    Args:
        logits: `(..., seq, vocab)`.
        labels: int64 `(..., seq)`, -1 or -100 where there is nothing to learn.
    """
    return class_loss(logits[..., :-1, :], labels[..., 1:])


def span_loss(start_logits: Tensor, end_logits: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Return the mean of the cross entropies of both ends of a span.

    Args:
        start_logits: `(batch, seq)`, as `end_logits`.
        end_logits: see `start_logits`.
        starts: int64 `(batch,)` or `(batch, 1)`: a position; negatives count as 0, those past the end are ignored.
        ends: as `starts`.
    """

    def one(logits: Tensor, positions: Tensor) -> Tensor:
        positions = positions.reshape(-1).clamp(min=0)
        return class_loss(logits, positions.masked_fill(positions >= logits.shape[-1], _IGNORED))

    return (one(start_logits, starts) + one(end_logits, ends)) / 2


def masked_labels(labels: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return labels with the padded positions ignored, for losses per token.

    Args:
        labels: int64 `(batch, seq)`.
        attention_mask: `(batch, seq)`; None, or a mask that differs between queries, hides no label.
    """
    if attention_mask is None or attention_mask.dim() != 2:
        return labels
    return torch.where(attention_mask != 0, labels, _IGNORED)
