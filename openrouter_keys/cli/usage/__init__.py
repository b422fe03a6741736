"""`usage`: each key's spending, as a table, for programs, or as a page."""
