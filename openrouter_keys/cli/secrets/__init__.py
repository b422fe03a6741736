"""Where secrets come from, and where they go."""
