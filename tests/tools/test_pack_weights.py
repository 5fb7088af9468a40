"""pack_weights.py: the mean of checkpoints, in half precision, and only of one network."""

from pathlib import Path

import pytest
import torch

from tools import pack_weights


def write(path: Path, value: float, **other) -> Path:
    state = {"w": torch.full((2, 3), value), "steps": torch.tensor(int(value))}
    checkpoint = {
        "format": 1, "kind": "multitask", "step": 7, "epoch": 1.0, "categories": ["a"],
        "category_ids": [1], "attributes": [], "labels": {}, "best": {"value": 1.0},
        "config": {
            "output_dir": "/home/me/run", "crop_size": 192,
            "augmentation": {"crop_size": 192, "flip": 0.5},
        },
        "optimizer": {"lr": 1}, "model": state,
    } | other  # fmt: skip
    torch.save(checkpoint, path)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        pack_weights.main([str(argument) for argument in arguments])
    return ended.value.code


def test_the_mean_of_two_in_half_precision(tmp_path):
    averaged = {"w": torch.full((2, 3), 4.0), "steps": torch.tensor(9)}
    files = write(tmp_path / "a.pt", 1.0), write(tmp_path / "b.pt", 3.0, ema=averaged)
    assert run(*files, "--output", tmp_path / "c.pt", "--crop-size", 288) == 0
    packed = torch.load(tmp_path / "c.pt", weights_only=True)
    assert packed["model"]["w"].dtype == torch.float16
    assert torch.equal(packed["model"]["w"].float(), torch.full((2, 3), 2.5))
    assert packed["model"]["steps"] == 9
    assert packed["config"] == {"crop_size": 288, "augmentation": {"crop_size": 288, "flip": 0.5}}
    assert packed.keys().isdisjoint({"best", "optimizer", "ema"})


def test_one_alone_stays_what_it_is(tmp_path):
    assert run(write(tmp_path / "a.pt", 1.0), "--output", tmp_path / "c.pt") == 0
    packed = torch.load(tmp_path / "c.pt", weights_only=True)
    assert torch.equal(packed["model"]["w"].float(), torch.ones(2, 3))
    assert packed["config"]["crop_size"] == 192


def test_a_detector_that_looks_into_the_mirror(tmp_path):
    checkpoint = write(tmp_path / "a.pt", 1.0, kind="detector", config={"test_short_side": 352})
    assert run(checkpoint, "--mirror", "--output", tmp_path / "c.pt") == 0
    packed = torch.load(tmp_path / "c.pt", weights_only=True)
    assert packed["config"] == {"test_short_side": 352, "test_mirror": True}


@pytest.mark.parametrize(
    ("other", "flags", "says"),
    [
        ({"model": {"w": torch.ones(3, 3)}}, [], "differs from"),
        ({"categories": ["b"]}, [], "has other categories"),
        ({"kind": "detector"}, [], "has other kind"),
        ({}, ["--crop-size", 100], "multiple of 32"),
        ({}, ["--mirror"], "holds a multitask"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, capsys, other, flags, says):
    files = write(tmp_path / "a.pt", 1.0), write(tmp_path / "b.pt", 3.0, **other)
    assert run(*files, "--output", tmp_path / "c.pt", *flags) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "c.pt").exists()


def test_a_checkpoint_is_not_written_over(tmp_path, capsys):
    files = write(tmp_path / "a.pt", 1.0), write(tmp_path / "b.pt", 3.0)
    before = files[0].read_bytes()
    (tmp_path / "sub").mkdir()
    assert run(*files, "--output", tmp_path / "sub" / ".." / "a.pt") == 2
    assert "is the file to be read; name another" in capsys.readouterr().err
    assert files[0].read_bytes() == before
