"""Names to entries: what models.yaml files say."""
