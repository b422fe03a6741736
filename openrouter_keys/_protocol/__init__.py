"""The meaning of the service's answers, decided by pure functions. No I/O."""
