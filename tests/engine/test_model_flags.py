"""Flags of scripts that run the models: what the user says goes before what the detector says."""

import argparse

import pytest
import torch

from engine import model_flags
from engine.detection.predict import PredictSettings
from engine.errors import InputError

CPU = torch.device("cpu")


def settings(*flags: str, **config: object) -> PredictSettings:
    parser = argparse.ArgumentParser()
    model_flags.add_detector_flags(parser)
    model_flags.add_running_flags(parser)
    return model_flags.predict_settings(parser.parse_args(flags), config, CPU)


@pytest.mark.parametrize(
    ("flags", "trained", "expected"),
    [([], {}, False), ([], {"test_mirror": True}, True), ([], {"test_mirror": False}, False),
     (["--mirror"], {}, True), (["--no-mirror"], {"test_mirror": True}, False)],
)  # fmt: skip
def test_mirror_flag_and_trained_setting(flags: list[str], trained: dict, expected: bool) -> None:
    assert settings(*flags, **trained).mirror is expected


@pytest.mark.parametrize(
    ("flags", "trained", "expected"),
    [([], {}, 0), ([], {"test_close_up": 0.6}, 0.6),
     (["--close-up", "0.3"], {"test_close_up": 0.6}, 0.3),
     (["--close-up", "0"], {"test_close_up": 0.6}, 0),
     ([], {"test_close_up": 0.6, "exported": True}, 0.6)],
)  # fmt: skip
def test_close_up_and_zoom_flags_and_trained_settings(
    flags: list[str], trained: dict, expected: float
) -> None:
    assert settings(*flags, **trained).close_up == expected
    flags = [flag.replace("close-up", "zoom") for flag in flags]
    trained = {name.replace("close_up", "zoom"): value for name, value in trained.items()}
    assert settings(*flags, **trained).zoom == expected


def test_sizes() -> None:
    trained = {"test_short_side": 352, "test_max_side": 528}
    assert settings(**trained).size_of((1000, 2000)) == (264, 528)
    assert settings("--short-side", "100", **trained).size_of((1000, 2000)) == (100, 200)
    assert settings("--max-side", "400", **trained).size_of((1000, 2000)) == (200, 400)
    assert settings().size_of((1000, 1000)) == (800, 800)


def test_exported_detectors_take_no_mirror_flag() -> None:
    exported = {"exported": True, "test_short_side": 64, "test_max_side": 96}
    assert not settings(**exported, test_mirror=True).mirror, "their graph does it"
    for flag in ("--mirror", "--no-mirror"):
        with pytest.raises(InputError, match="--mirror"):
            settings(flag, **exported)
    assert settings("--max-side", "197", **exported).max_side == 197


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [("--score-threshold", "70", "70: must be a number from 0 to 1"),
     ("--overlap", "0,7", "0,7: must be a number from 0 to 1"),
     ("--overlap", "nan", "nan: must be a number from 0 to 1"),
     ("--short-side", "0", "0: must be a whole number from 1 up"),
     ("-b", "2.5", "2.5: must be a whole number from 1 up")],
)  # fmt: skip
def test_out_of_range_values_report_the_range(
    flag: str, value: str, sentence: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        settings(flag, value)
    assert capsys.readouterr().err.rstrip().endswith(sentence)


@pytest.mark.parametrize("whole", [True, False])
def test_a_model_trained_on_whole_photos_gives_a_warning(whole: bool, caplog, monkeypatch) -> None:
    checkpoint = {"config": {"augmentation": {"whole_photo": whole}}}
    monkeypatch.setattr(model_flags, "load_checkpoint", lambda path, kind: checkpoint)
    monkeypatch.setattr(model_flags, "Describer", lambda *given: given)
    arguments = argparse.Namespace(multitask_weights="m.pt", precision="fp32")
    assert model_flags.build_describer(arguments, CPU)[0] is checkpoint
    assert ("m.pt was trained on whole photos" in caplog.text) is whole
