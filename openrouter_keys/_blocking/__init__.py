"""Coroutines called from threads. Knows nothing of keys."""
