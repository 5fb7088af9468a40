"""Makes a weights file for release: one checkpoint, or the mean of several, in half precision.

    python tools/pack_weights.py RUN/checkpoint_best.pt --output detector.pt
    python tools/pack_weights.py BEFORE.pt RUN/checkpoint_latest.pt --mirror --close-up 0.6 \\
        --zoom 0.35 --output detector.pt
    python tools/pack_weights.py RUN/checkpoint_best.pt --crop-size 288 --output multitask.pt
    python tools/pack_weights.py weights/multitask.pt --add-heads RUN/checkpoint_latest.pt \\
        --output multitask.pt

A checkpoint's EMA weights are used if it has them. The mean of a network and its fine-tuned version
is often better than either (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"); do not
average networks that were not trained from each other. Everything else in the file is the last
checkpoint's, except its evaluation and paths of the training machine: evaluate the result with
tools/evaluate.py.

--add-heads adds new attributes to a multitask model without changing anything else in it: train
them with --weights MODEL --trainable-layers 0 --tasks attributes, then add their classifiers. All
other predictions and all vectors stay the same, so databases stay valid.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from engine.checkpoint import load_checkpoint, save_checkpoint, weights_of
from engine.command_line import Parser, positive, share
from engine.config import flag_of, require
from engine.data.labels import LabelSpace, Source
from engine.description.multitask import build_multitask_from_checkpoint
from engine.distributed import configure_logging
from engine.errors import exits_cleanly
from engine.files import require_other

# Settings that hold paths of the training machine.
PLACES = ("data_path", "dataset", "annotations", "val_annotations", "images", "weights", "resume",
          "output_dir")  # fmt: skip
ALIKE = ("kind", "categories", "category_ids", "attributes", "labels")


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    read = [*arguments.checkpoints, *filter(None, [arguments.add_heads])]
    require_other(arguments.output, read, "--output")
    checkpoints = [weights_of(load_checkpoint(path)) for path in arguments.checkpoints]
    for path, checkpoint in zip(arguments.checkpoints, checkpoints, strict=True):
        require_same_network(path, checkpoint, arguments.checkpoints[-1], checkpoints[-1])
    packed = weights_of(
        checkpoints[-1] | {"model": mean([part["model"] for part in checkpoints])}, half=True
    )
    packed.pop("best", None)
    packed["config"] = {k: v for k, v in packed["config"].items() if k not in PLACES}
    if arguments.add_heads:
        other = weights_of(load_checkpoint(arguments.add_heads, "multitask"), half=True)
        packed = with_heads(packed, other, arguments.add_heads)
    if arguments.crop_size:
        require(
            packed["kind"] == "multitask",
            f"--crop-size: {arguments.checkpoints[-1]} holds a {packed['kind']}; it takes no crops",
        )
        packed["config"] = with_crop_size(packed["config"], arguments.crop_size)
    for name in ("mirror", "close_up", "zoom"):
        value = getattr(arguments, name)
        if value is not None:
            holds = f"{arguments.checkpoints[-1]} holds a {packed['kind']}"
            require(packed["kind"] == "detector", f"{flag_of(name)}: {holds}; give a detector")
            packed["config"] |= {f"test_{name}": value}
    save_checkpoint(packed, arguments.output)
    configure_logging().info("%s: %.1f MB", arguments.output, arguments.output.stat().st_size / 1e6)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="of one network")
    add("--output", type=Path, required=True, help="file to write")
    add(
        "--add-heads", type=Path, metavar="CHECKPOINT",
        help="multitask model with the same trunk; its label groups that the model lacks are added",
    )  # fmt: skip
    add(
        "--crop-size", type=positive, metavar="N",
        help="multitask model: crop size for inference in pixels, a multiple of 32 (default: as "
        "trained; a little larger is often better)",
    )  # fmt: skip
    add(
        "--mirror", action="store_true", default=None,
        help="detector: average with the mirror image by default (--no-mirror turns it off)",
    )  # fmt: skip
    add(
        "--close-up", type=share, metavar="SHARE",
        help="detector: size of a garment that makes a photo a close-up by default, see infer.py "
        "--help",
    )  # fmt: skip
    add(
        "--zoom", type=share, metavar="SHARE",
        help="detector: size of a photo's largest garment below which to zoom in by default, see "
        "infer.py --help",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    size = arguments.crop_size or 32
    require(size % 32 == 0, f"--crop-size {size}: must be a multiple of 32")
    return arguments


def require_same_network(
    path: Path, checkpoint: dict[str, Any], other_path: Path, other: dict[str, Any]
) -> None:
    """
    Raises:
        InputError: the two checkpoints' tensors or labels do not correspond.
    """
    for key in ALIKE:
        sentence = f"{path}: has other {key} than {other_path}; average checkpoints of one network"
        require(checkpoint.get(key) == other.get(key), sentence)
    shapes, others = ({k: v.shape for k, v in c["model"].items()} for c in (checkpoint, other))
    odd = sorted(k for k in shapes.keys() | others.keys() if shapes.get(k) != others.get(k))
    sentence = f"{path}: differs from {other_path} in {', '.join(odd[:3])}; average checkpoints of"
    require(not odd, f"{sentence} one network")


def mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every floating-point tensor; integer tensors are the last state's."""
    return {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }


def with_heads(model: dict[str, Any], other: dict[str, Any], path: Path) -> dict[str, Any]:
    """The model plus the classifiers of the label groups that only ``other`` has.

    Args:
        model, other: weights files' contents.
        path: of ``other``.

    Raises:
        InputError: the trunks differ, there is nothing to add, or it does not fit.
    """
    require(model["kind"] == "multitask", f"--add-heads: the first is a {model['kind']}")
    require_same_trunk(model["model"], other["model"], path)
    labels, other_labels = (LabelSpace.from_plain(part["labels"]) for part in (model, other))
    known = {group.name for group in labels.groups}
    answered = other_labels.groups_of_tasks(other["config"]["tasks"])
    new = [group for group in answered if group.name not in known]
    require(bool(new), f"{path}: has no label group that the model lacks")
    for group in new:
        sentence = (
            f"{path}: {group.name} also trains the {group.aspect} vector; train the whole model"
        )
        require(group.aspect is None, sentence)
    state, number = dict(model["model"]), len(labels.groups_of_tasks(model["config"]["tasks"]))
    for place, group in enumerate(new, number):
        old, own = f"classifiers.{answered.index(group)}.", f"classifiers.{place}."
        state |= {
            own + k.removeprefix(old): v for k, v in other["model"].items() if k.startswith(old)
        }
    names = [group.name for group in new]
    sources = [
        Source(s.name, {k: v for k, v in s.vocabulary.items() if k in names})
        for s in other_labels.sources
    ]
    merged = LabelSpace((*labels.groups, *new), (*labels.sources, *sources))
    twice = {s.name for s in labels.sources} & {s.name for s in sources}
    require(
        not twice, f"{path}: the model has a set named {', '.join(twice)}; rename yours by name="
    )
    result = model | {"model": state, "labels": merged.to_plain()}
    build_multitask_from_checkpoint(result)  # refuses what does not fit
    return result


def require_same_trunk(state: dict[str, Tensor], other: dict[str, Tensor], path: Path) -> None:
    """
    Raises:
        InputError: the trunks' tensors are not equal.
    """
    own, theirs = (
        {name: tensor for name, tensor in part.items() if name.startswith("backbone.")}
        for part in (state, other)
    )
    same = own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    sentence = f"{path}: has another trunk; train with --weights MODEL --trainable-layers 0"
    require(same, sentence)


def with_crop_size(config: dict[str, Any], size: int) -> dict[str, Any]:
    return config | {
        "crop_size": size,
        "augmentation": config["augmentation"] | {"crop_size": size},
    }


if __name__ == "__main__":
    main()
