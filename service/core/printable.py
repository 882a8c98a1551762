"""Text of strangers, made safe for a log, a terminal and a database."""


def printable(value: str) -> str:
    """Return the text with control characters, tabs and line ends written as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in value)


def printable_bytes(value: bytes) -> str:
    """Return bytes as printable text. Bytes that are not UTF-8 are written as escapes."""
    return printable(value.decode(errors="backslashreplace"))
