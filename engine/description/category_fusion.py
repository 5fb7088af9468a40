"""Fuses the category predictions of the detector and the multitask model.

The detector classifies a garment by 7x7 pooled features, the multitask model by a crop at full
resolution; it may also have been trained on other kinds of photos. If one of its training sets has
exactly the detector's categories, their probabilities are fused. If it was trained to tell garments
from false detections, those that it takes for false are dropped: a strip of floor above trousers
passes for a top in the detector's 7x7 cells, but not in a crop.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from engine.data.labels import CATEGORY, YES, LabelGroup, LabelSpace, index_by_text
from engine.detection.detections import Detections

# Applied to the detector's probabilities, which are overconfident on unfamiliar photos. Chosen on
# validation photos of streets, phones and shops together.
EXPONENT = 0.7

# A detection is kept if it is a garment with at least this probability. Of the included detector's
# on validation photos of phones this drops 61 of 115 false or misnamed ones and 3 of 343 garments
# with the right category, on street photos 2 of 133 and none of 449.
RECOGNIZED = 0.5


def category_columns(labels: LabelSpace, categories: Sequence[str]) -> list[int] | None:
    """The column of the multitask model's category logits for each of the detector's categories.

    Args:
        labels: the multitask model's.
        categories: the detector's; case is ignored.

    Returns:
        A column for each category; None if no training set has exactly these categories, since
        the same name may then mean something else.
    """
    if not categories or CATEGORY not in {group.name for group in labels.groups}:
        return None
    column = index_by_text(labels.group(CATEGORY).values)
    columns = [column.get(category.casefold(), -1) for category in categories]
    vocabularies = [source.vocabulary.get(CATEGORY, ()) for source in labels.sources]
    return columns if sorted(columns) in map(sorted, vocabularies) else None


def fuse_categories(found: Detections, opinions: np.ndarray) -> Detections:
    """The same garments with the category that maximizes the product of both probabilities.

    The product treats the networks' errors as independent. Scores stay as they are: they are the
    confidence that there is a garment.

    Args:
        found: N garments; if they lack the detector's probabilities they keep their labels.
        opinions: f32[N,C], the multitask model's probabilities of the detector's categories.
    """
    if found.probabilities is None:
        return found
    together = found.probabilities**EXPONENT * opinions
    return replace(found, labels=together.argmax(axis=1) + 1)


def recognized_rows(logits: Tensor, group: LabelGroup) -> list[int]:
    """Rows of the detections that the multitask model takes for garments.

    Args:
        logits: f32[N,V] of ``group``.
        group: the model's group ``engine.data.labels.IS_GARMENT``; without a value "yes" all rows
            are kept.
    """
    yes = index_by_text(group.values).get(YES)
    if yes is None:
        return list(range(len(logits)))
    dropped = logits.softmax(dim=1)[:, yes] < RECOGNIZED  # False for NaN, which is no verdict
    return torch.nonzero(~dropped).flatten().tolist()
