"""What a script's end says."""

import pytest

from engine.errors import InputError, exits_cleanly


def test_control_characters_in_errors_are_escaped(capsys) -> None:
    @exits_cleanly
    def main() -> None:
        raise InputError("\x1b[2Jred\n.jpg: not a photo")

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: ?[2Jred?.jpg: not a photo\n"
