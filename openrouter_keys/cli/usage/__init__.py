"""`usage`: who spends what, as a table, for programs, or as a page."""
