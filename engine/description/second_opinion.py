"""What two networks say of a garment, whose words both know: the detector and the multitask model.

The detector names a garment by a 7x7 map of it, between all the others of its photo; the multitask
model by a crop of it at full resolution, and it may have learned from photos of other kinds. Where
a set that it learned from has exactly the detector's categories, both answer the same question.
Where it has learned which of a detector's finds are garments, what it takes for none is none: a
strip of floor above trousers passes for a top in the detector's 7x7 cells, but not in a crop.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from engine.data.labels import CATEGORY, YES, LabelGroup, LabelSpace, index_by_text
from engine.detection.detections import Detections

# Of the detector's probabilities: it is surer than it is right on photos unlike those it knows.
# Chosen on validation photos of streets, phones and shops together.
EXPONENT = 0.7

# Probability of being a garment at all. Chosen there, too.
RECOGNIZED = 0.5


def answers_in(labels: LabelSpace, categories: Sequence[str]) -> list[int] | None:
    """Where in the multitask model's category head the detector's categories stand.

    Args:
        labels: the multitask model's.
        categories: the detector's; capitals do not count.

    Returns:
        A number for each category; None where no set has exactly these, hence the model's words
        may mean something else.
    """
    if not categories or CATEGORY not in {group.name for group in labels.groups}:
        return None
    values = [value.casefold() for value in labels.group(CATEGORY).values]
    words = [category.casefold() for category in categories]
    for source in labels.sources:
        known = source.vocabulary.get(CATEGORY, ())
        if sorted(values[number] for number in known) == sorted(words):
            return [values.index(word) for word in words]
    return None


def reconsidered(found: Detections, opinions: np.ndarray) -> Detections:
    """The same garments, each called what both networks together hold likeliest.

    As if their errors were independent: the product of their probabilities decides. Scores stay:
    they tell how surely there is a garment.

    Args:
        found: N garments; without the detector's probabilities they keep their names.
        opinions: f32[N,C], the multitask model's probabilities of the detector's categories.
    """
    if found.probabilities is None:
        return found
    together = found.probabilities**EXPONENT * opinions
    return replace(found, labels=together.argmax(axis=1) + 1)


def recognized(logits: Tensor, group: LabelGroup) -> list[int]:
    """Rows of what the multitask model, too, takes for a garment.

    Args:
        logits: f32[N,V] of ``group``.
        group: the model's question ``engine.data.labels.IS_GARMENT``; all rows where yes is not
            among its answers.
    """
    yes = index_by_text(group.values).get(YES)
    if yes is None:
        return list(range(len(logits)))
    sure = logits.softmax(dim=1)[:, yes] >= RECOGNIZED
    return torch.nonzero(sure).flatten().tolist()
