"""Archives: tar and zip files, extracted into the cache."""
