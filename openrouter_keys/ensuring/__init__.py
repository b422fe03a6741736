"""The key of a ref: made if there is none, changed, deleted; from any number of processes."""
