"""Keys that exist join a journal, without a secret: by their hashes, or by the names of specs."""
