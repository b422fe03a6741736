"""How hashes of keys and ids of workspaces are compared: a service may write them in capitals."""


def canonical(identifier: str) -> str:
    """Return the spelling to compare by; requests keep the one that an answer has."""
    return identifier.casefold()
