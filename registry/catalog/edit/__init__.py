"""Change a models.yaml in place; comments, order and layout stay."""
