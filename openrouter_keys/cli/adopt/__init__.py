"""The command `adopt`."""
