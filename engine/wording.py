"""Text for people: terminal-safe file names, and counts with a noun."""

import re


def printable(text: str) -> str:
    """A file name that is safe to print: undecodable bytes and control characters become "?"."""
    return re.sub(r"[\0-\x1f\x7f-\x9f]", "?", text.encode(errors="replace").decode())


def counted(number: int, what: str, many: str | None = None) -> str:
    """``1 photo``, ``2,000 photos``; ``many`` is the plural where it is not ``what`` + s."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"
