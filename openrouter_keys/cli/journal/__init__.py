"""`journal`: what a journal holds, and its secrets. No network."""
