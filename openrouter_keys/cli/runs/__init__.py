"""Runs that make many keys: what `provision` and `rotate` have in common."""
