"""The command, `openrouter-keys`: its grammar is in `app`. The library imports none of it."""
