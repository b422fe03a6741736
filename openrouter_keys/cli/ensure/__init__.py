"""`ensure` and `release`: the one key of a ref, from any number of processes."""
