"""The plugin host: which families there are, and how one is brought in."""
