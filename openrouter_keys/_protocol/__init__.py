"""What the service means, decided by pure functions. No I/O."""
