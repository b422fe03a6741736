"""`apply`: the account as a file says; its plan, and how it ended."""
