"""What a detector sees on a photo and the known category of its garment -> outlines to learn from.

A detector is often right about where a garment is when it is wrong about what it is: that is known
here. What is doubtful is left out; a photo less costs little, a wrong outline teaches a mistake.
"""

from collections.abc import Collection

import numpy as np
from pycocotools import mask as coco_mask

from engine.detection.detections import Detections
from engine.pixels.grabcut import cut_out_by_color
from engine.pixels.masks import RLE
from engine.pixels.studio import studio_mask

SEEN = 0.3  # score of a detection that may be a garment
SURE = 0.6  # score of another garment that is taken as it is
APART = 0.3  # share of the smaller one, up to which two detections that overlap are two garments
AGREE = 0.8  # IoU at which a studio photo's foreground is the garment

Outlined = list[tuple[str, RLE]]  # category and mask of the whole photo's size
Judged = list[tuple[str, RLE, bool]]  # the same, and whether it is a garment


def outline(
    photo: np.ndarray,
    found: Detections,
    categories: list[str],
    known: str,
    *,
    absent: Collection[str] = (),
    alone: bool = False,
) -> tuple[str, Outlined]:
    """The garments of a photo that shows one of a known category, and maybe more.

    Args:
        photo: u8[H,W,3] RGB, of the detections' size.
        found: with masks, also unlikely ones.
        categories: the detector's.
        known: one of them.
        absent: those that the photo does not show, whatever the detector sees.
        alone: the photo shows that one garment and nothing else.

    Returns:
        How the outlines came about, for people; and the outlines, none where nothing is certain.
    """
    names = [categories[label - 1] for label in found.labels]
    likely = [i for i in range(len(found)) if found.scores[i] >= SEEN]
    seen = [i for i in likely if names[i] not in absent]
    if not seen:
        return "nothing seen", []
    named = [i for i in seen if names[i] == known]
    if alone:  # the largest: what else is seen is small, and may bear the garment's name
        main = max(named or seen, key=lambda i: coco_mask.area(found.masks[i]))
        return _alone(photo, found.masks[main], known)
    main = named[0] if named else seen[0]
    others = [i for i in seen if _apart(found.masks[i], found.masks[main])]
    if others and not named:
        return "several garments, none called by its name", []
    worn = [known, *(names[i] for i in others)]
    # Who wears a category twice? Fists pass for shoes.
    if any(found.scores[i] < SURE for i in others) or len(set(worn)) < len(worn):
        return "other garments unsure", []
    if others:
        masks = [found.masks[i] for i in (main, *others)]
        return "worn with others, as detected", list(zip(worn, masks, strict=True))
    return _alone(photo, found.masks[main], known)


def judge_finds(
    found: Detections,
    categories: list[str],
    known: str,
    *,
    absent: Collection[str] = (),
    alone: bool = False,
) -> Judged:
    """Detections on such a photo, labeled as garments or false, as far as that is certain.

    The garment is the largest detection of its category. False are, if they do not overlap it, the
    detections of absent categories, and if it is alone those of any other category than its own
    (both shoes of a pair may be detected).

    Args:
        found: with masks, also unlikely ones, without duplicates.
        categories, known, absent, alone: see ``outline``.

    Returns:
        (category, mask, is a garment) of each; empty if no detection has the garment's category.
    """
    names = [categories[label - 1] for label in found.labels]
    named = [i for i in range(len(found)) if names[i] == known and found.scores[i] >= SEEN]
    if not named:
        return []
    main = max(named, key=lambda i: coco_mask.area(found.masks[i]))
    false = [
        i
        for i in range(len(found))
        if (names[i] in absent or (alone and names[i] != known))
        and coco_mask.area(found.masks[i])
        and _apart(found.masks[i], found.masks[main])
    ]
    return [(names[i], found.masks[i], i == main) for i in (main, *false)]


def _alone(photo: np.ndarray, rough: RLE, known: str) -> tuple[str, Outlined]:
    studio = studio_mask(photo)
    if studio is not None:
        mask = _encode(studio)
        if coco_mask.iou([mask], [rough], [0])[0, 0] >= AGREE:
            return "alone, off a studio's background", [(known, mask)]
    cut = cut_out_by_color(photo, coco_mask.decode(rough) > 0)
    if cut is None:
        return "alone, outline unsure", []
    return "alone, cut out by color", [(known, _encode(cut))]


def _apart(one: RLE, other: RLE) -> bool:
    shared = coco_mask.area(coco_mask.merge([one, other], intersect=True))
    smaller = min(coco_mask.area(one), coco_mask.area(other))
    return bool(shared <= APART * smaller)


def _encode(mask: np.ndarray) -> RLE:
    return coco_mask.encode(np.asfortranarray(mask > 0).view(np.uint8))
