"""`provision`: a key for each row of a file; its plan, and how it ended."""
