"""Every annotation format -> records of photos and garments -> torch datasets.

    records = load_dataset("coco", "photos/", split="train")      # or any other of DATASETS
    records[0].garments[0].box

    spec = parse_spec("csv:products:attributes=color,pattern:weight=2")      # one dataset of a mix
    records = load_spec(spec, spec.split)

Each format has its reader in ``engine/data/readers/``. Faults in a dataset are counted by kind and
logged, one line per kind; ``tools/check_dataset.py`` lists them all. A dataset is parsed once: the
result is cached in ``$XDG_CACHE_HOME/weft`` (or ``~/.cache/weft``) until the source changes.
"""

import csv
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engine.data.readers import selection
from engine.data.readers.opening import DATASETS, open_dataset
from engine.data.records import PhotoRecords
from engine.data.substituting_dataset import SubstitutingDataset
from engine.distributed import is_main
from engine.errors import InputError
from engine.training.samplers import Draw
from engine.wording import counted

OPTIONS = (
    "name", "split", "val", "weight", "category", "identity", "attributes",
    "annotations", "images", "mask",
)  # fmt: skip

logger = logging.getLogger("weft")


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset of a mix, parsed from ``--dataset FORMAT:PATH[:key=value]...``."""

    format: str  # one of DATASETS
    path: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name in results: the option ``name``, else the path's last folder."""
        return self.options.get("name") or Path(self.path).resolve().name

    @property
    def split(self) -> str:
        """The split to train on."""
        return self.options.get("split", "train")

    @property
    def val(self) -> str:
        """The split to evaluate on, "none" for none."""
        return self.options.get("val", "test" if self.format == "inshop" else "val")

    @property
    def weight(self) -> float:
        """Mean draws of each garment per epoch."""
        return float(self.options.get("weight", 1))


def parse_spec(text: str) -> DatasetSpec:
    """Parse ``FORMAT:PATH[:key=value]...``; neither path nor values may contain a colon.

    Options: ``name`` (in results), ``split`` and ``val`` (splits to train and evaluate on;
    val=none: don't evaluate), ``weight`` (mean draws of each garment per epoch), ``attributes=a,b``
    (groups to learn; double-quote names that contain a comma; ``attributes=``: none), ``category``
    and ``identity`` (csv: the column; "none": don't learn it), ``annotations``, ``images`` (where
    they are, from here or from PATH, if not in the usual place), ``mask=no`` (boxes only).

    Raises:
        InputError: malformed text, an unknown format or option, or a bad value.
    """
    format, _, rest = text.partition(":")
    path, *parts = rest.split(":")
    if format not in DATASETS or not path:
        known = ", ".join(DATASETS)
        raise InputError(f"dataset {text!r}: write FORMAT:PATH[:key=value], FORMAT one of {known}")
    options = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or key not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise InputError(
                f"dataset {text!r}: {part!r} is not an option; options are key=value with key one "
                f"of {known}, and a path must not contain a colon"
            )
        options[key] = value
    spec = DatasetSpec(format, path, options)
    _check_options(spec, text)
    return spec


def parse_specs(texts: Iterable[str]) -> list[DatasetSpec]:
    """Parse several specs whose results are reported side by side, so titles must be unique.

    Raises:
        InputError: as ``parse_spec``, or two datasets have the same title.
    """
    specs = [parse_spec(text) for text in texts]
    titles = [spec.title for spec in specs]
    if len(set(titles)) < len(titles):
        raise InputError(f"sets named {', '.join(titles)}: give each its own with name=")
    return specs


def _check_options(spec: DatasetSpec, text: str) -> None:
    try:
        positive = 0 < spec.weight < float("inf")
    except ValueError:
        positive = False
    if not positive:
        raise InputError(f"dataset {text!r}: weight must be a number above 0")
    if spec.options.get("mask", "yes") not in ("yes", "no"):
        raise InputError(f"dataset {text!r}: mask is yes or no")


def load_spec(spec: DatasetSpec, split: str, *, strict: bool = False) -> PhotoRecords:
    """One split of a spec's dataset, with the labels its options select, without crowd annotations.

    Raises:
        InputError: as ``load_dataset``.
    """
    options = spec.options
    wanted = options.get("attributes")
    if wanted is not None:
        wanted = [name for name in next(csv.reader([wanted]), []) if name]
    # A COCO file holds one split, so it cannot serve another; a CSV table holds all splits.
    same_file = spec.format == "csv" or split == spec.split
    records = load_dataset(
        spec.format,
        spec.path,
        split=split,
        annotations=options.get("annotations") if same_file else None,
        images=options.get("images"),
        category=options.get("category"),
        identity=options.get("identity"),
        attributes=wanted,
        masks=options.get("mask") != "no",
        strict=strict,
    )
    crowds = records.garment_crowd
    return records.keep_garments(~crowds) if crowds.any() else records


def load_dataset(
    format: str,
    path: str | Path,
    *,
    split: str = "train",
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    category: str | None = None,
    identity: str | None = None,
    attributes: Sequence[str] | None = None,
    masks: bool = True,
    strict: bool = False,
) -> PhotoRecords:
    """Read one split of a dataset.

    Args:
        format: one of DATASETS.
        path: the dataset's root folder.
        split: which split. coco: names the annotation file ``<path>/<split>.json``,
            ``<path>/annotations/<split>.json``, ``<path>/annotations/instances_<split>*.json``,
            Fashionpedia's ``<path>/annotations/instances_attributes_<split>*.json`` or
            ``<path>/<split>/_annotations.coco.json``.
            deepfashion2: the folder, "train" or "validation" (alias "val"). deepfashion,
            deepfashion-fine: "train", "val", "test". inshop: "train", "query", "gallery", "test"
            (both). consumer2shop: "train", "val", "test", "query", "gallery" (the shop's photos of
            val and test). csv: a value of the column ``split``.
        annotations: coco: the annotation file, csv: the table; None searches the usual places.
        images: all but deepfashion2: the folder the file names are relative to, named from the
            working directory or from ``path``, whichever holds the photos; None takes whichever of
            these does: ``<path>/images``, ``<path>/images/<split>``,
            ``<path>/<split>``, ``<path>/<split>2017``, ``<path>/Img``, ``<path>``, the annotation
            file's folder or (for val) ``<path>/test``.
        category, identity: csv: the columns to read; any format: "none" makes them unknown.
        attributes: the attribute groups to read (csv: columns); None reads all.
        masks: False drops them.
        strict: raise at the first fault instead of leaving out the faulty photo or garment.

    Raises:
        InputError: the dataset is missing, not in that format, has no usable photo or, with
            ``strict``, any fault.
    """
    root = Path(path).absolute()  # the cache outlives the working directory
    if format not in DATASETS:
        raise InputError(f"dataset {format!r}: choose one of {', '.join(DATASETS)}")
    if annotations is not None and format not in ("coco", "csv"):
        raise InputError(f"annotations={annotations}: {format} has none to choose; leave it out")
    if images is not None and format == "deepfashion2":
        raise InputError(f"images={images}: {format} has its photos in <split>/image; leave it out")
    columns = {"category": category, "identity": identity, "attributes": attributes}
    try:  # is_dir() and exists() raise where a folder above may not be entered
        if not root.is_dir():
            raise InputError(f"{path}: no such folder; give the dataset's root")
        records = open_dataset(
            format, root, split, annotations=annotations, images=images, columns=columns
        )
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{error.filename or path}: cannot be read ({reason}); see to its name and permissions"
        ) from error
    if format != "csv":
        records = selection.select_labels(records, **columns)
    records = records if masks else selection.forget_masks(records)
    _report(records, f"{format} {split}", strict)
    return records


def _report(records: PhotoRecords, title: str, strict: bool) -> None:
    """Log what was read and its faults; raise if it is unusable or, with strict, faulty."""
    faults = [problem for problem in records.problems if not problem.is_note]
    if strict and faults:
        raise InputError(f"{title}: {faults[0].line()}")
    if len(records) == 0:
        why = faults[0].line() if faults else "it lists none"
        raise InputError(f"{title}: no usable photo in {records.root}: {why}")
    if is_main():
        masks = "with masks" if records.has_masks else "boxes only"
        photos = counted(len(records), "photo")
        garments = counted(len(records.garment_category), "garment")
        logger.info("%s: %s, %s (%s)", title, photos, garments, masks)
        crowds = int(records.garment_crowd.sum())
        if crowds:  # CVAT exports everything painted with its brush as a crowd
            logger.info(
                "%s: %d of them are crowds (iscrowd 1), used neither for training nor evaluation; "
                "if each is one garment, set iscrowd to 0", title, crowds,
            )  # fmt: skip
        for problem in records.problems:
            level = logging.INFO if problem.is_note else logging.WARNING
            logger.log(level, "%s: %s", title, problem.line())


class DetectionDataset(SubstitutingDataset):
    """Training samples of the detector, drawn by ``engine.training.samplers``.

    Args:
        records: the photos.
        transform: makes (image, target) from a Draw (``data_aug.DetectorTransform``); raises
            PhotoError when the photo cannot be read.
        class_agnostic: label every garment 1.
        strict: raise PhotoError for an unreadable photo; otherwise a later one takes its place.

    Raises:
        InputError: some garments have no category and ``class_agnostic`` is off.
    """

    def __init__(
        self,
        records: PhotoRecords,
        transform: Callable[[Draw], tuple[torch.Tensor, dict[str, torch.Tensor]]],
        *,
        class_agnostic: bool = False,
        strict: bool = False,
    ) -> None:
        if not class_agnostic and (records.garment_category < 0).any():
            raise InputError(
                f"{records.root}: some garments have no category; train a class-agnostic detector"
            )
        super().__init__(str(records.root), strict=strict)
        self.records = records
        self.transform = transform
        self.class_agnostic = class_agnostic

    def __len__(self) -> int:
        return len(self.records)

    def _sample(self, draw: Draw) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """uint8 [3, H, W] and its target."""
        image, target = self.transform(draw)
        if self.class_agnostic:
            target["labels"] = torch.ones_like(target["labels"])
        return image, target
