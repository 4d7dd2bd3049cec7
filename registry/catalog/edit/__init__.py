"""Edit a models.yaml in place, keeping comments, order and layout."""
