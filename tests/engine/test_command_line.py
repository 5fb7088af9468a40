"""Scripts take flags in full and show their docstrings as written."""

import argparse

import pytest

from engine.command_line import Parser


def parser() -> Parser:
    parser = Parser(description="first line\n    second line")
    parser.add_argument("--backbone-lr-factor", type=float)
    network = parser.add_subparsers(dest="network").add_parser("detector")
    network.add_argument("--precision")
    return parser


@pytest.mark.parametrize("line", [["--backbone", "1"], ["detector", "--prec", "bf16"]])
def test_flags_are_taken_in_full_only(line: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(line)
    assert exit_.value.code == 2
    assert line[-2] in capsys.readouterr().err


def test_whole_flags_are_taken_and_docstrings_stay_as_written() -> None:
    answer = parser().parse_args(["--backbone-lr-factor", "1", "detector", "--precision", "bf16"])
    assert answer == argparse.Namespace(
        backbone_lr_factor=1.0, network="detector", precision="bf16"
    )
    assert "first line\n    second line" in parser().format_help()
