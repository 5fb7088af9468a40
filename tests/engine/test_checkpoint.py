"""Checkpoints: whole at any moment, plain data only, clear refusals."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from engine.checkpoint import (
    NoWeightInit,
    fill,
    load_checkpoint,
    save_checkpoint,
    weights_of,
)
from engine.errors import InputError
from engine.files import remove_leftovers


def small(step: int = 1, size: int = 3) -> dict:
    return {
        "format": 1, "kind": "detector", "step": step, "epoch": 0.5, "config": {"arch": "x"},
        "categories": ["top"], "category_ids": [1], "attributes": [], "best": {},
        "model": {"w": torch.full((size,), float(step))}, "ema": None, "optimizer": {},
    }  # fmt: skip


def test_round_trip_and_permissions(tmp_path):
    path = tmp_path / "checkpoint_latest.pt"
    save_checkpoint(small(7), path)
    loaded = load_checkpoint(path, "detector")
    assert loaded["step"] == 7
    assert loaded["model"]["w"].tolist() == [7, 7, 7]
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


WRITER = """
import sys
from pathlib import Path
from tests.engine.test_checkpoint import small
from engine.checkpoint import save_checkpoint
step = 0
while True:
    step += 1
    save_checkpoint(small(step, size=300_000), Path(sys.argv[1]) / "checkpoint_latest.pt")
    print(step, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "checkpoint_latest.pt"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "1\n"
    for pause in (0.0, 0.011, 0.017, 0.023):
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGSTOP)  # a reader beside a writer stopped at any moment
        loaded = load_checkpoint(path)
        assert set(loaded["model"]["w"].tolist()) == {float(loaded["step"])}
        os.kill(writer.pid, signal.SIGCONT)
    writer.kill()
    writer.wait()
    loaded = load_checkpoint(path)
    assert set(loaded["model"]["w"].tolist()) == {float(loaded["step"])}
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "checkpoint_latest.pt"
    save_checkpoint(small(1), path)
    with pytest.raises(AttributeError):
        save_checkpoint({"bad": lambda: None}, path)
    assert load_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("room", [1 << 8, 1 << 12, 1 << 16])
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, room):
    path = tmp_path / "checkpoint_latest.pt"
    save_checkpoint(small(1), path)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, usual[1]))
    try:
        with pytest.raises(InputError) as caught:
            save_checkpoint(small(2, size=1 << 16), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    reason = os.strerror(errno.EFBIG)
    assert str(caught.value).startswith(f"cannot write {path}: {reason}; free space")
    assert load_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_path_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        save_checkpoint(small(), tmp_path / "missing" / "checkpoint_latest.pt")


class Bomb:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    "content",
    ["missing", "text", "cut", "empty", "foreign", "bomb", "hole", "unconfigured", "unnumbered",
     "weightless", "old"],
)  # fmt: skip
def test_files_that_are_no_checkpoint_are_refused_by_name(tmp_path, content, capsys):
    path = tmp_path / "weights.pt"
    save_checkpoint(small(), path)
    if content == "missing":
        path.unlink()
    elif content == "text":
        path.write_text("hello")
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-700])
    elif content == "empty":
        path.write_bytes(b"")
    elif content == "foreign":
        torch.save({"conv.weight": torch.zeros(1)}, path)
    elif content == "bomb":
        torch.save(small() | {"x": Bomb()}, path)
    elif content == "hole":  # what a broken download leaves: PyTorch would load it
        data = path.read_bytes()
        place = data.index(small()["model"]["w"].numpy().tobytes())
        path.write_bytes(data[:place] + bytes(4) + data[place + 4 :])
    elif content == "unconfigured":
        torch.save({k: v for k, v in small().items() if k != "config"}, path)
    elif content == "unnumbered":
        torch.save(small() | {"category_ids": []}, path)
    elif content == "weightless":
        torch.save(small() | {"model": None}, path)
    elif content == "old":
        torch.save(small() | {"format": 0}, path)
    with pytest.raises(InputError, match=r"weights\.pt"):
        load_checkpoint(path)
    assert "code ran" not in capsys.readouterr().out


def test_the_wrong_kind_is_refused(tmp_path):
    save_checkpoint(small(), tmp_path / "w.pt")
    with pytest.raises(InputError, match="holds a detector model, but a multitask model"):
        load_checkpoint(tmp_path / "w.pt", "multitask")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, None), ({"more.num_batches_tracked": torch.tensor(3)}, None),
     ({"criterion.scale": torch.ones(1)}, None), ({"more": torch.ones(1)}, "do not fit"),
     ({"bias": torch.tensor([float("nan")])}, "not finite"),
     ({"weight": torch.tensor([[float("inf"), 1.0, -float("inf")]])}, "not finite")],
)  # fmt: skip
def test_only_whole_and_finite_weights_fill_a_model(changes, words):
    model = torch.nn.Linear(3, 1)
    state = {"weight": torch.ones(1, 3), "bias": torch.ones(1)} | changes
    if words:
        with pytest.raises(InputError, match=words):
            fill(model, {"model": state, "ema": None})
    else:
        fill(model, {"model": {}, "ema": state})
        assert model.bias.item() == 1


def test_networks_to_be_filled_draw_no_weights_but_keep_their_constants():
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    with NoWeightInit():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
        nn.init.kaiming_normal_(network[0].weight)
    assert torch.equal(torch.rand(1), drawn)
    assert network[1].weight.tolist() == [1] * 4 and network[1].running_mean.tolist() == [0] * 4


def test_weights_prefer_the_average_drop_the_training_state_and_can_be_halved():
    average = {"w": torch.tensor([[0.1]]), "v": torch.tensor([1e5]), "n": torch.tensor([3])}
    checkpoint = small() | {"ema": average}
    weights = weights_of(checkpoint, half=True)
    assert "optimizer" not in weights
    assert "ema" not in weights
    assert weights["model"]["w"].dtype == torch.float16
    assert weights["model"]["n"].dtype == torch.int64
    assert torch.equal(weights["model"]["v"], average["v"])  # beyond the largest fp16
    assert weights_of(small())["model"]["w"].tolist() == [1, 1, 1]
