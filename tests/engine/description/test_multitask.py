"""The multitask model: masks bound what it sees, batches don't matter, every task learns."""

import math

import pytest
import torch
import torch.nn.functional as F

from engine.data.labels import ASPECTS, LabelGroup, LabelSpace, Source
from engine.description.aspect_heads import Attention, ColorReader
from engine.description.criterion import Criterion
from engine.description.multitask import (
    ASPECT_DIMS,
    DEFAULT_TASKS,
    TASKS,
    build_multitask,
    build_multitask_from_checkpoint,
)
from engine.errors import InputError

SPACE = LabelSpace(
    (
        LabelGroup("category", ("a", "b", "c", "d", "e"), True),
        LabelGroup("color", ("red", "blue", "gray"), True),
        LabelGroup("parts", ("zip", "hood"), False),
    ),
    (
        Source("x", {"category": (0, 1, 2), "color": (0, 1, 2)}),
        Source("y", {"category": (2, 3, 4), "parts": (0, 1)}),
    ),
)
SIDE = 64


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return build_multitask(SPACE, trunk="resnet18", weights="none").eval()


def crops(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 255
    return F.interpolate(coarse, size=SIDE, mode="bilinear").to(torch.uint8)


def batch(count: int = 7) -> dict:
    full = torch.full((count, SIDE, SIDE), 255, dtype=torch.uint8)
    source = torch.arange(count) % 2
    return {
        "mask": full, "view": crops(count, 9), "view_mask": full,
        "view_aspect": torch.arange(count) % 4, "source": source,
        "identity": torch.tensor([0, 0, 1, 1, -1, -1, 2])[:count],
        "box": torch.tensor([[0.1, 0.2, 0.8, 0.9]] * (count - 1) + [[float("nan")] * 4]),
        "labels": {
            "category": torch.where(source == 0, 1, 4),
            "color": torch.where(source == 0, torch.arange(count) % 3, -1),
            "parts": torch.where(source[:, None] == 1, torch.tensor([[1, -1]]), 0).to(torch.int8),
        },
    }  # fmt: skip


@torch.no_grad()
def test_descriptions_have_the_promised_shapes(model):
    found = model.describe(crops(3))
    assert {k: tuple(v.shape) for k, v in found["logits"].items()} == {
        "category": (3, 5), "color": (3, 3), "parts": (3, 2),
    }  # fmt: skip
    assert {k: v.shape[1] for k, v in found["aspects"].items()} == ASPECT_DIMS
    for vectors in found["aspects"].values():
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@torch.no_grad()
def test_a_crop_gives_the_same_alone_and_in_a_batch(model):
    many = crops(32)
    together = model.describe(many)
    for i in (0, 17, 31):
        alone = model.describe(many[i : i + 1])
        for name, vectors in together["aspects"].items():
            assert F.cosine_similarity(alone["aspects"][name], vectors[i : i + 1]) > 0.9999
        torch.testing.assert_close(
            alone["logits"]["category"][0], together["logits"]["category"][i], atol=1e-4, rtol=1e-4
        )


@torch.no_grad()
def test_colors_outside_the_mask_do_not_reach_the_color_reader():
    reader = ColorReader()
    image = crops(1)
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 16:48, 8:40] = 1
    repainted = torch.where(mask.bool(), image, 255 - image)
    look = torch.full((1, 1, 4, 4), 1 / 16)
    before, after = reader.histogram(image), reader.histogram(repainted)
    torch.testing.assert_close(reader(before, look, mask), reader(after, look, mask))
    everywhere = torch.ones_like(mask)
    assert (reader(before, look, everywhere) - reader(after, look, everywhere)).abs().max() > 0.03


@torch.no_grad()
def test_the_color_reader_counts_a_flat_color():
    reader = ColorReader()
    red = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    red[:, 0] = 255
    look, everywhere = torch.full((1, 1, 4, 4), 1 / 16), torch.ones(1, 1, SIDE, SIDE)
    features = reader(reader.histogram(red), look, everywhere)[0]
    shares, mean = features[:-3].square(), features[-3:] * 100
    nearest = (reader.histogram.centers - torch.tensor([53.24, 80.09, 67.20])).norm(dim=1).argmin()
    assert shares.argmax() == nearest
    assert shares.sum() == pytest.approx(1, abs=1e-2)
    torch.testing.assert_close(mean, torch.tensor([53.24, 80.09, 67.20]), atol=0.05, rtol=0)


@torch.no_grad()
def test_colors_are_read_in_full_precision_under_autocast():
    reader = ColorReader()
    with torch.autocast("cpu", torch.bfloat16):
        halved = reader.histogram(crops(1))
    for part, expected in zip(halved, reader.histogram(crops(1)), strict=True):
        assert torch.equal(part, expected)


def test_losses_are_taken_in_full_precision_under_autocast():
    model = build_multitask(SPACE, trunk="resnet18", weights="none", tasks=TASKS)
    model.criterion = Criterion(SPACE, TASKS, ASPECT_DIMS)
    model.train().dropout.p = 0
    targets = batch()
    images, masks = torch.cat([crops(7), targets["view"]]), torch.cat([targets["mask"]] * 2)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(crops(7), targets)
        found = model._read(images, masks, None)
    assert found["boxes"].dtype == torch.float32
    torch.testing.assert_close(losses, model.criterion(found, targets))


@torch.no_grad()
def test_attention_starts_as_the_mean_inside_the_mask():
    attention = Attention(5, 6, 3)
    covered = torch.zeros(2, 1, 4, 4)
    covered[:, :, 1:3, 1:3] = 1
    looks = attention(torch.randn(2, 5, 4, 4), torch.randn(2, 6, 2, 2), covered)
    torch.testing.assert_close(
        looks[:, :, 1:3, 1:3], torch.full((2, 3, 2, 2), 0.25), atol=1e-4, rtol=0
    )


@torch.no_grad()
def test_an_empty_mask_counts_as_no_mask(model):
    images = crops(2)
    empty = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    torch.testing.assert_close(model.describe(images, empty), model.describe(images))


@pytest.mark.parametrize("trunk", ["resnet18", "mobilenet_v3_large"])
def test_every_task_gives_a_loss_and_every_parameter_a_gradient(trunk):
    model = build_multitask(SPACE, trunk=trunk, weights="none", trainable_layers=5, tasks=TASKS)
    model.criterion = Criterion(SPACE, TASKS, ASPECT_DIMS, task_weights="learned")
    losses = model.train()(crops(7), batch())
    assert set(losses) == {f"loss_{task}" for task in TASKS}
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_tasks_choose_the_heads():
    model = build_multitask(SPACE, trunk="resnet18", weights="none", tasks=("category", "color"))
    model.criterion = Criterion(SPACE, model.tasks, ASPECT_DIMS)
    assert set(model.train()(crops(7), batch())) == {"loss_category", "loss_color"}
    found = model.eval().describe(crops(2))
    assert set(found["logits"]) == {"category"}
    assert set(found["aspects"]) == {"color"}


def test_fixed_weights_scale_the_losses():
    model = build_multitask(SPACE, trunk="resnet18", weights="none", tasks=("category",)).train()
    model.dropout.p = 0
    plain, heavy = (
        Criterion(SPACE, ("category",), {}),
        Criterion(SPACE, ("category",), {}, task_weights={"category": 3.0}),
    )
    losses = []
    for criterion in (plain, heavy):
        model.criterion = criterion
        losses.append(model(crops(7), batch())["loss_category"].item())
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-3)


@pytest.mark.parametrize(("aspect", "apart"), [("shape", True), ("item", True), ("color", False)])
def test_negatives_of_a_view(aspect, apart):
    """Two crops and their views that look the same: ln 2 where the crops should differ, else 0."""
    criterion = Criterion(SPACE, (aspect,), ASPECT_DIMS)
    vectors = F.normalize(torch.ones(4, ASPECT_DIMS[aspect]), dim=1)
    two = batch(2) | {"source": torch.tensor([0, 0])}
    two["view_aspect"] = torch.full((2,), ASPECTS.index(aspect))
    two["labels"] = {"category": torch.tensor([1, 1]), "color": torch.tensor([2, 2])}

    def loss(identities):
        targets = two | {"identity": torch.tensor(identities)}
        return criterion({"logits": {}, "aspects": {aspect: vectors}}, targets)[f"loss_{aspect}"]

    others, one = loss([0, 1]), loss([-1, -1] if aspect == "color" else [0, 0])
    assert others.item() - one.item() == pytest.approx(math.log(2) if apart else 0, abs=1e-5)


def test_a_few_steps_teach_color_by_name_and_by_view():
    """Flat colors, no help from anything but the color losses."""
    torch.manual_seed(0)
    model = build_multitask(SPACE, trunk="resnet18", weights="none", tasks=("color",))
    model.criterion = Criterion(SPACE, ("color",), ASPECT_DIMS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    tones = torch.tensor([[200, 30, 30], [30, 40, 200], [120, 120, 120]], dtype=torch.uint8)
    target = batch(6) | {"view_aspect": torch.ones(6, dtype=torch.int64)}
    target["source"] = torch.zeros(6, dtype=torch.int64)
    target["labels"]["color"] = torch.arange(6) % 3
    images = tones[torch.arange(6) % 3][:, :, None, None].expand(-1, -1, 32, 32)
    target |= {"view": images, "mask": target["mask"][:, :32, :32]}
    target["view_mask"] = target["mask"]
    first = None
    for _ in range(8):
        loss = model.train()(images, target)["loss_color"]
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * first


def test_survives_a_checkpoint_without_its_criterion(model):
    trained = build_multitask(SPACE, trunk="resnet18", weights="none")
    trained.criterion = Criterion(SPACE, DEFAULT_TASKS, ASPECT_DIMS)
    checkpoint = {
        "config": {"trunk": "resnet18", "tasks": list(DEFAULT_TASKS)},
        "labels": SPACE.to_plain(), "model": trained.state_dict(),
    }  # fmt: skip
    again = build_multitask_from_checkpoint(checkpoint)
    trained.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            again.describe(crops(2)), trained.describe(crops(2)), atol=1e-5, rtol=1e-4
        )
    del checkpoint["labels"]
    with pytest.raises(InputError, match="lacks 'labels'"):
        build_multitask_from_checkpoint(checkpoint)


def test_fine_tuning_on_other_labels_keeps_what_both_know(tmp_path, caplog):
    torch.manual_seed(1)
    old = build_multitask(SPACE, trunk="resnet18", weights="none")
    file = tmp_path / "old.pt"
    config = {"tasks": list(DEFAULT_TASKS)}
    torch.save({"format": 1, "kind": "multitask", "config": config, "labels": SPACE.to_plain(),
                "model": old.state_dict()}, file)  # fmt: skip
    others = LabelSpace(
        (
            LabelGroup("size", ("s", "m"), True),
            LabelGroup("category", ("E", "new", "b"), True),
            LabelGroup("color", ("gray", "red"), True),
        ),
        (Source("z", {"size": (0, 1), "category": (0, 1, 2), "color": (0, 1)}),),
    )
    with caplog.at_level("INFO", "weft"):
        new = build_multitask(others, trunk="resnet18", weights=str(file))
    assert "values known from there: size 0 of 2, category 2 of 3, color 2 of 2" in caplog.text
    torch.testing.assert_close(new.classifiers[1].weight[[0, 2]], old.classifiers[0].weight[[4, 1]])
    torch.testing.assert_close(new.classifiers[2].bias, old.classifiers[1].bias[[2, 0]])
    images = crops(2)
    with torch.no_grad():
        before, after = (model.eval().describe(images)["aspects"] for model in (old, new))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
