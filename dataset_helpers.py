"""Every annotation format -> records of photos and garments -> torch datasets.

    records = load_dataset("coco", "photos/", split="train")      # or "deepfashion2"
    records[0].garments[0].box

Each format has its reader in ``engine/readers/``. Whatever is wrong with a dataset is counted by
kind and logged, one line a kind; ``tools/check_dataset.py`` lists it all. A dataset is parsed once:
the result is kept in ``$XDG_CACHE_HOME/weft`` (or ``~/.cache/weft``) until the source changes.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from engine.distributed import is_main
from engine.errors import InputError
from engine.photos import PhotoError
from engine.readers import coco, deepfashion2
from engine.readers.cache import load_or_build
from engine.records import PhotoRecords
from engine.samplers import Draw

DATASETS = ("coco", "deepfashion2")

logger = logging.getLogger("weft")


def load_dataset(
    name: str,
    path: str | Path,
    *,
    split: str = "train",
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    strict: bool = False,
) -> PhotoRecords:
    """Read one split of a dataset.

    Args:
        name: one of DATASETS.
        path: the dataset's root folder.
        split: which part. coco: names the annotation file ``<path>/<split>.json``,
            ``<path>/annotations/<split>.json`` or ``<path>/annotations/instances_<split>*.json``.
            deepfashion2: the folder, "train" or "validation" ("val" is understood).
        annotations: coco: the annotation file, instead of looking for it.
        images: coco: the folder the file names are relative to, instead of ``<path>/images``,
            ``<path>/<split>``, ``<path>/<split>2017`` or ``<path>``, whichever holds the photos.
        strict: stop at the first fault instead of leaving the faulty photo or garment out.

    Raises:
        InputError: the dataset is not there, not in that format, has no usable photo or, with
            ``strict``, any fault.
    """
    root = Path(path).absolute()  # the cache outlives the working directory
    if name not in DATASETS:
        raise InputError(f"dataset {name!r}: choose one of {', '.join(DATASETS)}")
    if not root.is_dir():
        raise InputError(f"{path}: no such folder; give the dataset's root")
    if name == "coco":
        records = _load_coco(root, split, annotations, images)
    else:
        records = _load_deepfashion2(root, split)
    _report(records, f"{name} {split}", strict)
    return records


def _load_coco(
    root: Path, split: str, annotations: str | Path | None, images: str | Path | None
) -> PhotoRecords:
    file = coco.find_annotations(root, split, annotations)
    folders = coco.find_images(root, split, images)
    places = {
        "annotations": str(file.resolve()),
        "images": str([str(f.resolve()) for f in folders]),
    }
    key = {"name": "coco", "split": split, **places}
    return load_or_build(key, lambda: coco.read(file, folders))


def _load_deepfashion2(root: Path, split: str) -> PhotoRecords:
    key = {"name": "deepfashion2", "split": split, "root": str(root.resolve())}
    return load_or_build(key, lambda: deepfashion2.read(root, split))


def _report(records: PhotoRecords, title: str, strict: bool) -> None:
    """Say what was read and what was wrong; refuse what can't be worked with."""
    faults = [problem for problem in records.problems if not problem.is_note]
    if strict and faults:
        raise InputError(f"{title}: {faults[0].line()}")
    if len(records) == 0:
        why = faults[0].line() if faults else "it lists none"
        raise InputError(f"{title}: no usable photo in {records.root}: {why}")
    if is_main():
        masks = "with masks" if records.has_masks else "boxes only"
        garments = len(records.garment_category)
        logger.info("%s: %d photos, %d garments (%s)", title, len(records), garments, masks)
        for problem in records.problems:
            level = logging.INFO if problem.is_note else logging.WARNING
            logger.log(level, "%s: %s", title, problem.line())


class DetectionDataset(torch.utils.data.Dataset):
    """Training samples of the detector, drawn by ``engine.samplers``.

    Args:
        records: the photos.
        transform: makes (image, target) out of a Draw (``data_aug.DetectorTransform``); raises
            PhotoError when the photo cannot be read.
        class_agnostic: label every garment 1.
        strict: let an unreadable photo end the training.
    """

    def __init__(
        self,
        records: PhotoRecords,
        transform: Callable[[Draw], tuple[torch.Tensor, dict[str, torch.Tensor]]],
        *,
        class_agnostic: bool = False,
        strict: bool = False,
    ) -> None:
        self.records = records
        self.transform = transform
        self.class_agnostic = class_agnostic
        self.strict = strict
        self._warned: set[Path] = set()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """uint8 [3, H, W] and its target; the next readable photo stands in for a broken one."""
        for step in range(len(self)):
            stand_in = draw._replace(index=(draw.index + step) % len(self))
            try:
                image, target = self.transform(stand_in)
            except PhotoError as error:
                if self.strict:
                    raise
                self._warn_once(error)
                continue
            if self.class_agnostic:
                target["labels"] = torch.ones_like(target["labels"])
            return image, target
        raise InputError(f"{self.records.root}: not one photo can be read")

    def _warn_once(self, error: PhotoError) -> None:
        if error.path not in self._warned:
            self._warned.add(error.path)
            logger.warning("left out: %s", error)
