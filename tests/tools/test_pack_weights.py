"""pack_weights.py: the mean of checkpoints, in half precision, and only of one network."""

from pathlib import Path

import pytest
import torch

from engine.checkpoint import load_checkpoint
from engine.data.labels import LabelGroup, LabelSpace, Source
from engine.description.multitask import build_multitask, build_multitask_from_checkpoint
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


def test_one_checkpoint_keeps_its_weights(tmp_path):
    assert run(write(tmp_path / "a.pt", 1.0), "--output", tmp_path / "c.pt") == 0
    packed = torch.load(tmp_path / "c.pt", weights_only=True)
    assert torch.equal(packed["model"]["w"].float(), torch.ones(2, 3))
    assert packed["config"]["crop_size"] == 192


def test_mirror_averaging_close_ups_and_zoom_are_stored_in_the_file(tmp_path):
    checkpoint = write(tmp_path / "a.pt", 1.0, kind="detector", config={"test_short_side": 352})
    assert run(checkpoint, "--mirror", "--output", tmp_path / "c.pt") == 0
    packed = torch.load(tmp_path / "c.pt", weights_only=True)
    assert packed["config"] == {"test_short_side": 352, "test_mirror": True}
    assert run(tmp_path / "c.pt", "--close-up", 0.6, "--output", tmp_path / "d.pt") == 0
    again = torch.load(tmp_path / "d.pt", weights_only=True)
    assert again["config"] == packed["config"] | {"test_close_up": 0.6}
    assert run(tmp_path / "d.pt", "--close-up", 0, "--output", tmp_path / "e.pt") == 0
    assert torch.load(tmp_path / "e.pt", weights_only=True)["config"]["test_close_up"] == 0
    assert run(tmp_path / "e.pt", "--zoom", 0.3, "--output", tmp_path / "f.pt") == 0
    config = torch.load(tmp_path / "f.pt", weights_only=True)["config"]
    assert config == again["config"] | {"test_close_up": 0, "test_zoom": 0.3}


@pytest.mark.parametrize(
    ("other", "flags", "says"),
    [
        ({"model": {"w": torch.ones(3, 3)}}, [], "differs from"),
        ({"categories": ["b"]}, [], "has other categories"),
        ({"kind": "detector"}, [], "has other kind"),
        ({}, ["--crop-size", 100], "multiple of 32"),
        ({}, ["--mirror"], "holds a multitask"),
        ({}, ["--close-up", 0.6], "holds a multitask"),
        ({}, ["--zoom", 0.3], "holds a multitask"),
    ],
)
def test_checkpoints_of_different_networks_are_refused(tmp_path, capsys, other, flags, says):
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


def model_file(path: Path, groups: dict[str, tuple], tasks: tuple, seed: int, source: str) -> Path:
    """A small multitask model; the trunk follows from the seed."""
    labels = LabelSpace(
        tuple(LabelGroup(name, values, True) for name, values in groups.items()),
        (Source(source, {name: tuple(range(len(values))) for name, values in groups.items()}),),
    )
    torch.manual_seed(seed)
    model = build_multitask(labels, trunk="resnet18", weights="none", tasks=tasks)
    torch.manual_seed(len(groups))
    for classifier in model.classifiers:
        torch.nn.init.normal_(classifier.weight)
    config = {"trunk": "resnet18", "tasks": tasks, "crop_size": 64, "margin": 0.1}
    checkpoint = {"format": 1, "kind": "multitask", "step": 1, "epoch": 1.0, "config": config}
    torch.save(checkpoint | {"labels": labels.to_plain(), "model": model.state_dict()}, path)
    return path


ASKED = {"category": ("a", "b"), "fit": ("slim", "wide", "loose")}
TASKS = ("category", "attributes", "shape")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.pt"
    return model_file(path, ASKED, TASKS, 3, "shop")


def test_a_head_is_added_and_everything_else_stays(base, tmp_path):
    groups = {"fit": ("slim", "wide"), "lined": ("yes", "no"), "hood": ("no", "some", "big")}
    other = model_file(tmp_path / "o.pt", groups, ("attributes",), 3, "mine")
    assert run(base, "--add-heads", other, "--output", tmp_path / "n.pt") == 0
    before, asked, after = (
        build_multitask_from_checkpoint(load_checkpoint(path, "multitask"))
        for path in (base, other, tmp_path / "n.pt")
    )
    assert [group.name for group in after.groups] == ["category", "fit", "lined", "hood"]
    assert {s.name: set(s.vocabulary) for s in after.labels.sources} == {
        "shop": {"category", "fit"},
        "mine": {"lined", "hood"},
    }
    crops = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        said, alone, together = (m.describe(crops) for m in (before, asked, after))
    expected = said["logits"] | {name: alone["logits"][name] for name in ("lined", "hood")}
    assert expected.keys() == together["logits"].keys()
    for name, logits in expected.items():
        torch.testing.assert_close(together["logits"][name], logits, atol=0.05, rtol=0.01)
    torch.testing.assert_close(together["aspects"], said["aspects"], atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("groups", "tasks", "seed", "source", "says"),
    [
        ({"lined": ("yes", "no")}, ("attributes",), 4, "mine", "has another trunk"),
        (ASKED, TASKS, 3, "mine", "has no label group that the model lacks"),
        ({"color": ("red",)}, ("attributes",), 3, "mine", "color also trains the color vector"),
        ({"lined": ("yes", "no")}, ("attributes",), 3, "shop", "a set named shop"),
        ({"lined": ("yes", "no")}, ("attributes", "box"), 3, "mine", "classifiers.2"),
    ],
)
def test_heads_that_do_not_fit_are_refused(
    base, tmp_path, capsys, groups, tasks, seed, source, says
):
    other = model_file(tmp_path / "o.pt", groups, tasks, seed, source)
    assert run(base, "--add-heads", other, "--output", tmp_path / "n.pt") == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "n.pt").exists()
    assert run(base, "--add-heads", other, "--output", other) == 2
