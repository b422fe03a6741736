"""Text that came from elsewhere, made fit to be shown."""


def printable(text: str) -> str:
    """Show control characters as escapes: a key's name must not steer a terminal."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "replace").decode()
        for each in text
    )
