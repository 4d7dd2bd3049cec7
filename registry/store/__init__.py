"""Entries to verified local files."""
