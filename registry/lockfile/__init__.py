"""models.lock: the exact files of each name, held and updated."""
