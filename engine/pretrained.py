"""Starting weights of both networks: downloads, Weft checkpoints, bare backbones.

What did and did not load is always logged: layers left random by mistake waste a training run.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torchvision.models import get_model_weights
from torchvision.models.detection import (
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)

from engine.checkpoint import read_plain
from engine.data.labels import LabelSpace
from engine.data.relabel import carry_categories, carry_over
from engine.errors import InputError
from engine.files import is_file

if TYPE_CHECKING:
    from engine.description.multitask import Multitask
    from engine.detection.detector import Detector

logger = logging.getLogger("weft")

BODY = "backbone.body."
# Layers whose shape depends on the number of categories.
PER_CATEGORY = (
    "roi_heads.box_predictor.",
    "roi_heads.mask_predictor.mask_fcn_logits.",
    "classifiers.",
)
CLASSIFIER = ("fc.", "classifier.")
NORM_EPSILON = 1e-5
State = dict[str, Tensor]


@dataclass
class WeightsReport:
    """The names of all tensors, by whether and why they were loaded."""

    source: str
    loaded: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)  # per-category layers, left random
    missing: list[str] = field(default_factory=list)  # the model has it, the file does not
    unused: list[str] = field(default_factory=list)  # the file has it, the model does not

    def lines(self) -> list[str]:
        """One readable line per kind, tensors counted by part of the model."""
        kinds = (
            ("loaded", self.loaded),
            ("left random, made for other categories", self.other_shape),
            ("left random, not in the file", self.missing),
            ("in the file but not used", self.unused),
        )
        return [f"{self.source}: {what}: {_by_part(names)}" for what, names in kinds if names]


def load_weights(
    model: "Detector | Multitask", source: str | Path, categories: Sequence[str] = ()
) -> WeightsReport:
    """Load starting weights into a network, in place; log and return what did and did not load.

    From a checkpoint of the other kind of network only the body is loaded.

    Several processes of a machine should not download at once: see
    ``engine.distributed.first_on_each_machine``.

    Args:
        model: the network; downloads are chosen by its backbone and architecture.
        source: "imagenet" (body) or "coco" (everything but the per-category layers), downloaded
            once by torchvision; or a file: a Weft checkpoint or weights file (averaged weights are
            preferred), or the state dict of a network or of a bare torchvision backbone, fp16 or
            fp32.
        categories: the detector's; per-category weights of a Weft file are matched by name.

    Raises:
        InputError: no download, an unreadable file, or weights of another architecture.
    """
    report = WeightsReport(str(source))
    if source == "imagenet":
        state = _as_detector(_download(get_model_weights(model.backbone.name)["IMAGENET1K_V1"]))
    elif source == "coco":
        state = _coco_state(model)
    else:
        state = _as_detector(_read_for(model, Path(source), categories))
    _check_body(state, model, source)
    own = model.state_dict()
    for name in [n for n in state if n.startswith(PER_CATEGORY) and n in own]:
        if state[name].shape != own[name].shape:
            report.other_shape.append(name)
            del state[name]
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise InputError(f"{source}: made for another architecture: {reason}") from error
    missing = set(result.missing_keys) - set(report.other_shape)
    report.missing = sorted(n for n in missing if not _is_counter(n))
    report.unused = sorted(n for n in result.unexpected_keys if not _is_counter(n))
    report.loaded = [n for n in own if n not in result.missing_keys and not _is_counter(n)]
    for line in report.lines():
        logger.info(line)
    return report


def _read_for(model: "Detector | Multitask", path: Path, categories: Sequence[str]) -> State:
    """A file's tensors; per-label rows are rearranged to ``model``'s labels by name."""
    if not is_file(path):
        raise InputError(
            f"{path}: no such weights file; give imagenet, coco, none or the path of a file"
        )
    content = read_plain(path)
    state = _state_of(content, path)
    kind = content.get("kind")
    if kind in ("detector", "multitask"):
        _check_settings(content.get("config", {}), model, path)
    if kind == "multitask" and hasattr(model, "labels"):
        labels = LabelSpace.from_plain(content["labels"])
        state, found = carry_over(state, labels, tuple(content["config"]["tasks"]), model)
        sizes = {group.name: len(group.values) for group in model.groups}
        kept = ", ".join(f"{name} {count} of {sizes[name]}" for name, count in found.items())
        logger.info("%s: values known from there: %s", path, kept)
    elif kind == "detector" and categories and content["categories"] != list(categories):
        state, count = carry_categories(
            state, model.state_dict(), PER_CATEGORY, categories, content["categories"]
        )
        logger.info("%s: categories known from there: %d of %d", path, count, len(categories))
    return state


def _check_settings(config: dict[str, Any], model: "Detector | Multitask", path: Path) -> None:
    """Refuse weights of ours whose network had another shape, naming the flag that makes it so."""
    own, theirs = model.backbone.body.stride_in_1x1, config.get("stride_in_1x1", False)
    if own is not None and own != theirs:
        known, advice = ("with", "add it") if theirs else ("without", "leave it out")
        raise InputError(f"{path}: was trained {known} --stride-in-1x1; {advice}")
    own, theirs = model.backbone.pyramid_channels, config.get("pyramid_channels")
    if None not in (own, theirs) and own != theirs:
        raise InputError(f"{path}: was trained with --pyramid-channels {theirs}; give the same")


def read_state(path: Path) -> State:
    """The tensors of a weights file, whichever of the accepted layouts it has.

    Raises:
        InputError: missing, damaged, or holding anything but tensors and plain data.
    """
    return _state_of(read_plain(path), path)


def _state_of(content: dict[str, Any], path: Path) -> State:
    state = content.get("ema") or content.get("model") or content
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: no state dict of tensors in it")
    return dict(state)


def _download(weights: Any) -> State:
    try:
        return dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:  # no network, no such host, cut or altered file
        raise InputError(
            f"cannot download {weights.url} ({error}); give --weights a FILE instead, or none"
        ) from error


def _coco_state(model: "Detector | Multitask") -> State:
    if model.backbone.name != "resnet50":
        raise InputError(
            f"there are no COCO weights for {model.backbone.name}: use --backbone resnet50 or "
            "--weights imagenet"
        )
    if getattr(model, "arch", "") == "maskrcnn_v2":
        return _download(MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1)
    state = _download(MaskRCNN_ResNet50_FPN_Weights.COCO_V1)
    # Trained with frozen batch norms without an epsilon; ours add one to the variance.
    for name in state:
        if name.startswith(BODY) and name.endswith("running_var"):
            state[name] = state[name] - NORM_EPSILON
    return state


def _as_detector(state: State) -> State:
    """Prefix the names of a bare backbone with BODY; leave a whole network's names alone."""
    if any(name.startswith(BODY) for name in state):
        return state
    bare = {n.removeprefix("features."): v for n, v in state.items()}
    return {n if n.startswith(CLASSIFIER) else BODY + n: v for n, v in bare.items()}


def _check_body(state: State, model: "Detector | Multitask", source: str | Path) -> None:
    """Refuse another backbone's weights: a ResNet-101's contain all tensors of a ResNet-50."""
    expected = {BODY + n for n in model.backbone.body.state_dict() if not _is_counter(n)}
    given = {n for n in state if n.startswith(BODY) and not _is_counter(n)}
    if expected != given:
        raise InputError(
            f"{source}: not the weights of a {model.backbone.name}: it lacks "
            f"{len(expected - given)} of that network's {len(expected)} tensors and holds "
            f"{len(given - expected)} others; check --backbone (--trunk)"
        )


def _is_counter(name: str) -> bool:
    """Batch norm's step counters: frozen norms have none and nothing depends on them."""
    return name.endswith("num_batches_tracked")


def _by_part(names: Iterable[str]) -> str:
    """Count names by part of the model: "265 backbone.body, 16 backbone.fpn"."""
    parts = (re.match(r"(backbone\.\w+|roi_heads\.\w+|\w+)", name)[0] for name in names)
    return ", ".join(f"{count} {part}" for part, count in Counter(parts).items())
