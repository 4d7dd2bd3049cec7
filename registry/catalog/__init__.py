"""Read models.yaml files and find the entry of a name."""
