"""Settings become flags and back, and bad values are told in one sentence."""

import argparse
import dataclasses

import pytest

from engine.config import add_arguments, from_arguments
from engine.detection.detector_config import DetectorConfig
from engine.errors import InputError

REQUIRED = ["--output-dir", "out", "--data-path", "data"]


def parse(*flags: str) -> DetectorConfig:
    parser = argparse.ArgumentParser()
    add_arguments(parser, DetectorConfig)
    return from_arguments(DetectorConfig, parser.parse_args([*REQUIRED, *flags]))


def test_the_parser_keeps_the_defaults():
    assert parse() == DetectorConfig(output_dir="out", data_path="data")


def test_every_setting_has_a_flag_that_changes_it():
    other = {
        bool: lambda v: "--no-{}" if v else "--{}",
        int: lambda v: str(v + 1),
        float: lambda v: str((v or 0.02) / 2 + 0.1),
    }
    for field in dataclasses.fields(DetectorConfig):
        default = getattr(parse(), field.name)
        flag = field.name.replace("_", "-")
        choices = field.metadata["choices"]
        if isinstance(default, bool):
            flags = [other[bool](default).format(flag)]
        elif isinstance(default, tuple):
            flags = [f"--{flag}", "40", "50"]
        elif choices:
            flags = [f"--{flag}", next(c for c in choices if c != default)]
        elif isinstance(default, (int, float)):
            flags = [f"--{flag}", other[type(default)](default)]
        else:
            flags = [f"--{flag}", "0.5"]
        assert getattr(parse(*flags), field.name) != default, field.name


def test_short_flags_of_the_original_project():
    config = parse("-b", "4", "-j", "0", "--lr-steps", "3", "5", "--lr", "0.005")
    assert (config.batch_size, config.workers, config.lr_steps, config.lr) == (4, 0, (3, 5), 0.005)


def test_a_list_given_in_several_flags_adds_up():
    assert parse("--lr-steps", "3", "--lr-steps", "5", "8").lr_steps == (3, 5, 8)
    assert parse("--lr-steps").lr_steps == ()


@pytest.mark.parametrize(
    "flags",
    [
        ["--epochs", "0"], ["-b", "0"], ["-j", "-1"], ["--lr", "0"], ["--momentum", "1"],
        ["--ema-decay", "1"], ["--lr-gamma", "0"], ["--lr-steps", "8", "3"], ["--lr-steps", "0"],
        ["--test-short-side", "2000"], ["--test-short-side", "16"], ["--lr", "inf"],
        ["--trainable-backbone-layers", "6"], ["--aspect-ratio-group-factor", "-2"],
        ["--repeat-threshold", "2"], ["--rois-per-image", "0"], ["--clip-norm", "-1"],
        ["--frozen-epochs", "-1"], ["--frozen-epochs", "1", "--weights", "none"],
        ["--seed", str(2**63)], ["--test-close-up", "2"],
        ["--test-zoom", "-0.1"],
    ],
)  # fmt: skip
def test_bad_values_name_the_flag(flags):
    with pytest.raises(InputError, match="--"):
        parse(*flags)
