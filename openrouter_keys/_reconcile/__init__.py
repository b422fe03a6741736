"""Creates without an answer: finds their keys, and deletes those that are provably theirs."""
