"""Models in shards over several ranks."""
