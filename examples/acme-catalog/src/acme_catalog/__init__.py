"""The names of Acme; all there is to them stands in models.yaml."""
