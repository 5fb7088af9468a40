"""Words for people: names that any terminal takes, and numbers of things."""

import re


def printable(text: str) -> str:
    """A file's name as any terminal takes it: some are not even text, some would command it."""
    return re.sub(r"[\0-\x1f\x7f-\x9f]", "?", text.encode(errors="replace").decode())


def counted(number: int, what: str, many: str | None = None) -> str:
    """``1 photo``, ``2 photos``; ``many`` where the plural does not end on a mere s."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"
