"""Look after a cache: what is in it, what may go, what is damaged."""
