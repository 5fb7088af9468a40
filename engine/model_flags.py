"""The shared flags of scripts that run the trained models, and the models built from these flags.

The defaults are the included weights. A script adds the groups of flags that it needs.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from engine.checkpoint import load_checkpoint
from engine.command_line import positive, share
from engine.config import require
from engine.description.describer import Describer, DescriberSettings
from engine.detection.finder import GarmentFinder
from engine.detection.predict import KEPT_SHORT_SIDE, PredictSettings
from engine.files import digest
from engine.onnx_runtime import load_exported

DETECTOR_WEIGHTS = Path(__file__).parents[1] / "weights" / "detector.pt"
MULTITASK_WEIGHTS = DETECTOR_WEIGHTS.with_name("multitask.pt")
EXPORTED = ".onnx"
GPU_BATCH = 8
# Chosen on street photos by tools/evaluate.py detector.
SCORE_THRESHOLD, OVERLAP = 0.7, 0.4
DESCRIPTION = ("top_k", "temperature", "tta", "vocabulary")  # flags that DescriberSettings takes

logger = logging.getLogger("weft")


def add_detector_flags(parser: argparse.ArgumentParser, *short: str) -> None:
    """``--detector-weights`` (``short``: further names of it) and which garments count."""
    choice = parser.add_argument_group("which garments")
    choice.add_argument(
        *short, "--detector-weights", dest="detector_weights", type=Path,
        default=DETECTOR_WEIGHTS, metavar="FILE",
        help="detector's checkpoint or weights file (default: weights/detector.pt)",
    )  # fmt: skip
    choice.add_argument(
        "--score-threshold", type=share, default=SCORE_THRESHOLD, metavar="0..1",
        help=f"leave out garments the detector is less sure of (default: {SCORE_THRESHOLD})",
    )  # fmt: skip
    choice.add_argument(
        "--overlap", type=share, default=OVERLAP, metavar="0..1",
        help="non-maximum suppression across categories: of garments whose masks have a higher IoU "
        f"than this, keep the one with the best score; 1 keeps all (default: {OVERLAP})",
    )  # fmt: skip


def add_description_flags(parser: argparse.ArgumentParser) -> None:
    """``--multitask-weights`` and how the model describes garments."""
    text = parser.add_argument_group("how to describe them")
    add_multitask_flag(text)
    text.add_argument(
        "--top-k", type=positive, default=3, metavar="N",
        help="most probable values to list per attribute group (default: 3)",
    )  # fmt: skip
    text.add_argument(
        "--temperature", type=float, default=1.0, metavar="T",
        help="divides the logits; above 1, probabilities are less extreme (default: 1)",
    )  # fmt: skip
    text.add_argument(
        "--tta", action="store_true",
        help="average over the crop, its mirror image and a wider crop: three times the work",
    )  # fmt: skip
    text.add_argument(
        "--vocabulary", metavar="NAME",
        help="predict only the labels of this training set (default: for each attribute group "
        "those of the first training set that has it)",
    )  # fmt: skip
    text.add_argument(
        "--save-features", action="store_true",
        help="write every garment's aspect vectors to features.npz",
    )  # fmt: skip


def add_multitask_flag(group: argparse._ActionsContainer) -> None:
    """``--multitask-weights``."""
    group.add_argument(
        "--multitask-weights", metavar="FILE",
        help="multitask model's checkpoint or weights file, or none for no model (default: "
        "weights/multitask.pt, where it is there)",
    )  # fmt: skip


def add_running_flags(parser: argparse.ArgumentParser) -> None:
    """Sizes, batches, threads, precision, device."""
    work = parser.add_argument_group("how to run")
    work.add_argument(
        "--short-side", type=positive, metavar="N",
        help="pixels to which a photo's short side is resized (default: as trained)",
    )  # fmt: skip
    work.add_argument(
        "--max-side", type=positive, metavar="N",
        help="bound on its long side (default: as trained)",
    )  # fmt: skip
    add_view_flags(work)
    work.add_argument(
        "-b", "--batch-size", type=positive, metavar="N",
        help="photos per forward pass; changes results only by rounding (default: 1 on a CPU, "
        "which gains nothing from more; 8 on a GPU)",
    )  # fmt: skip
    work.add_argument(
        "-j", "--workers", type=positive, default=4, metavar="N",
        help="threads that decode and draw (default: 4)",
    )  # fmt: skip
    work.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32",
        help="arithmetic of the networks; the half precisions are faster on GPUs, bf16 also on "
        "CPUs that support it, fp16 far slower there (default: fp32)",
    )  # fmt: skip
    work.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="where the network runs (default: auto, a GPU if there is one)",
    )  # fmt: skip


def add_view_flags(group: argparse._ActionsContainer) -> None:
    """``--mirror``, ``--close-up`` and ``--zoom``."""
    group.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction,
        help="average over the photo and its mirror image: better outlines and scores for twice "
        "the work (default: as the detector was evaluated)",
    )  # fmt: skip
    group.add_argument(
        "--close-up", type=share, metavar="SHARE",
        help="a photo with a garment of at least this size (square root of the box's area as a "
        "share of the photo's short side) is a close-up, whose large garments are detected at half "
        "the photo's size, for a quarter more work; 0: off (default: as the detector was "
        "evaluated)",
    )  # fmt: skip
    group.add_argument(
        "--zoom", type=share, metavar="SHARE",
        help="in a photo whose largest garment is below this size (as a share of --short-side), "
        "the part with garments is enlarged and detected again, for up to five times the work; 0: "
        "off (default: as the detector was evaluated)",
    )  # fmt: skip


def add_runtime_flag(parser: argparse.ArgumentParser) -> None:
    """``--runtime``; call ``apply_runtime`` on the parsed arguments."""
    parser.add_argument(
        "--runtime", choices=("torch", "onnx"), default="torch",
        help="what runs the networks; onnx: ONNX Runtime, on the CPU, and both weights flags name "
        ".onnx files of tools/export_model.py (default: torch)",
    )  # fmt: skip


def apply_runtime(arguments: argparse.Namespace) -> None:
    """Adapt the defaults of other flags to --runtime, in place.

    Raises:
        InputError: a flag that exported models do not support.
    """
    if arguments.runtime == "torch":
        return
    sentence = "--device cuda: exported models run on the CPU; leave it out, or --runtime onnx"
    require(arguments.device != "cuda", sentence)
    sentence = f"--precision {arguments.precision}: exported models compute in fp32; leave it out"
    require(arguments.precision == "fp32", sentence)
    arguments.device = "cpu"
    if arguments.detector_weights == DETECTOR_WEIGHTS:
        arguments.detector_weights = DETECTOR_WEIGHTS.with_suffix(EXPORTED)
    if arguments.multitask_weights is None and MULTITASK_WEIGHTS.exists():
        arguments.multitask_weights = str(MULTITASK_WEIGHTS.with_suffix(EXPORTED))


def build_finder(arguments: argparse.Namespace, device: torch.device) -> GarmentFinder:
    """The detector selected by the flags.

    Raises:
        InputError: the file is missing, is not a detector, or does not support the flags.
    """
    path = arguments.detector_weights
    require(
        path != DETECTOR_WEIGHTS or path.exists(),
        f"{path} is not there: give --detector-weights FILE, or train a detector with "
        "python train.py detector",
    )
    checkpoint = _load(arguments, path, "detector")
    settings = predict_settings(arguments, checkpoint["config"], device)
    return GarmentFinder(checkpoint, settings, overlap=arguments.overlap, device=device)


def _load(arguments: argparse.Namespace, path: Path, kind: str) -> dict[str, Any]:
    """A checkpoint for torch, an exported model for ONNX Runtime."""
    exported = path.suffix.lower() == EXPORTED
    if getattr(arguments, "runtime", "torch") == "onnx":
        require(
            exported,
            f"{path}: --runtime onnx takes exported models; make one with python "
            f"tools/export_model.py {path} --output FILE{EXPORTED}",
        )
        return load_exported(path, kind)
    require(
        not exported,
        f"{path}: an exported model, which takes infer.py --runtime onnx; give the checkpoint that "
        "it was made of, or that flag",
    )
    return load_checkpoint(path, kind)


def multitask_path(arguments: argparse.Namespace) -> Path | None:
    """The multitask model's file; None for no model."""
    text = arguments.multitask_weights
    if text is None:
        return MULTITASK_WEIGHTS if MULTITASK_WEIGHTS.exists() else None
    return None if text == "none" else Path(text)


def build_describer(
    arguments: argparse.Namespace, device: torch.device, **settings: Any
) -> Describer | None:
    """The multitask model selected by the flags; None for ``--multitask-weights none``.

    Args:
        arguments: the flags.
        device: where to run.
        settings: of ``DescriberSettings``, for scripts that have no flags for them.
    """
    path = multitask_path(arguments)
    if path is None:
        return None
    chosen = {name: getattr(arguments, name) for name in DESCRIPTION if name in arguments}
    settings = DescriberSettings(precision=arguments.precision, **chosen, **settings)
    checkpoint = _load(arguments, path, "multitask")
    if checkpoint["config"].get("augmentation", {}).get("whole_photo"):
        logger.warning(
            "%s was trained on whole photos (--whole-photo): it is less accurate on garment crops",
            path,
        )
    return Describer(checkpoint, device, settings)


def description_basis(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that descriptions of garments depend on, ready for JSON."""
    path = multitask_path(arguments)
    weights = {} if path is None else {"multitask_weights": digest(path)}
    chosen = {name: getattr(arguments, name) for name in DESCRIPTION if name in arguments}
    return chosen | weights


def predict_settings(
    arguments: argparse.Namespace, config: dict[str, Any], device: torch.device
) -> PredictSettings:
    """The settings of inference: as the detector was evaluated, unless flags say otherwise.

    Raises:
        InputError: a flag that an exported detector does not support.
    """
    exported = config.get("exported", False)
    sentence = "--mirror: an exported detector does what it was exported with; leave it out"
    require(not exported or arguments.mirror is None, sentence)
    return PredictSettings.as_evaluated(
        config,
        short_side=arguments.short_side,
        max_side=arguments.max_side,
        mirror=False if exported else arguments.mirror,
        close_up=arguments.close_up,
        zoom=arguments.zoom,
        score_threshold=arguments.score_threshold,
        batch_size=arguments.batch_size or (1 if device.type == "cpu" else GPU_BATCH),
        workers=arguments.workers,
        precision=arguments.precision,
    )


def detection_basis(arguments: argparse.Namespace, settings: PredictSettings) -> dict[str, Any]:
    """Everything that a photo's detections depend on, ready for JSON."""
    return {
        "weights": digest(arguments.detector_weights),
        "score_threshold": settings.score_threshold,
        "overlap": arguments.overlap,
        "short_side": settings.short_side,
        "max_side": settings.max_side,
        "mirror": settings.mirror,
        "close_up": settings.close_up,
        "zoom": settings.zoom,
        "precision": settings.precision,
        "kept_short_side": KEPT_SHORT_SIDE,  # resolution that crops and vectors are made from
    }
