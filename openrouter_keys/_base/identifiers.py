"""Compares hashes of keys and ids of workspaces, which a service may write in capitals."""


def canonical(identifier: str) -> str:
    """Return the form to compare by; requests use the form of the answer."""
    return identifier.casefold()
