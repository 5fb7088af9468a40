"""Metrics of predicted labels: exclusive groups and multi-label attributes.

Scores are float [N, V], higher for more probable values, on any scale; -inf marks values that the
model cannot predict. Targets of exclusive groups are int64 [N], the index of the value, -1 unknown;
those of multi-label groups int8 [N, V], 1 yes, -1 no, 0 unknown. Unknown targets never count.
"""

from collections.abc import Sequence

import numpy as np

NO_PREDICTION = -1  # predicted if all scores are -inf


def predicted(scores: np.ndarray) -> np.ndarray:
    """int64 [N], the best value of each sample; NO_PREDICTION where all are -inf."""
    return np.where(np.isfinite(scores).any(axis=1), scores.argmax(axis=1), NO_PREDICTION)


def topk_hits(scores: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Whether the target of each labelled sample is among its k best values: bool [M].

    Of tied values the lower index ranks first. Values of score -inf are never among the best.
    """
    scores, targets = scores[targets >= 0], targets[targets >= 0]
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < targets[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return (rank < k) & np.isfinite(own[:, 0])


def confusion(predictions: np.ndarray, targets: np.ndarray, values: int) -> np.ndarray:
    """Confusion matrix int64 [values, values + 1] of predictions and targets, int64 [N] each.

    Rows are targets, columns predictions; the last column counts NO_PREDICTION.
    """
    known = targets >= 0
    column = np.where(predictions[known] < 0, values, predictions[known])
    cells = np.bincount(targets[known] * (values + 1) + column, minlength=values * (values + 1))
    return cells.reshape(values, values + 1)


def f1_scores(matrix: np.ndarray) -> dict[str, float]:
    """Macro and weighted F1 of a confusion matrix, as scikit-learn defines them.

    F1 of a value is 2 TP / (2 TP + FP + FN). The macro average is over the values that
    occur among targets or predictions; the weighted one is over samples.
    """
    hit = np.diagonal(matrix)
    truth, predictions = matrix.sum(axis=1), matrix[:, :-1].sum(axis=0)
    occurs = truth + predictions > 0
    f1 = 2 * hit[occurs] / (truth + predictions)[occurs]
    weighted = np.average(f1, weights=truth[occurs])
    return {"macro_f1": float(f1.mean()), "weighted_f1": float(weighted)}


def report(predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> str:
    """A text table with precision, recall, F1 and support of each value that occurs."""
    # Imported here, since importing scikit-learn is slow.
    from sklearn.metrics import classification_report

    known = targets >= 0
    labels = np.union1d(targets[known], predictions[known])
    shown = [names[i] if i >= 0 else "(no answer)" for i in labels]
    return classification_report(
        targets[known],
        predictions[known],
        labels=labels,
        target_names=shown,
        zero_division=0,
        digits=3,
    )


def attribute_scores(scores: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray | float]:
    """Metrics of multi-label attributes; "yes" is a logit above 0, a probability above one half.

    Returns:
        "precision", "recall", "f1": float64 [V], 0 where the denominator is 0; "positives":
        int64 [V]; "macro_f1" over the attributes with a positive; "micro_f1" from the summed
        counts; "hamming": share of wrong predictions among the known entries.
    """
    yes, known = scores > 0, targets != 0
    hits = (yes & (targets > 0)).sum(axis=0)
    said, positives = (yes & known).sum(axis=0), (targets > 0).sum(axis=0)
    f1 = _ratio(2 * hits, said + positives)
    occurs = positives > 0
    wrong = ((yes != (targets > 0)) & known).sum()
    return {
        "precision": _ratio(hits, said),
        "recall": _ratio(hits, positives),
        "f1": f1,
        "positives": positives,
        "macro_f1": float(f1[occurs].mean()) if occurs.any() else float("nan"),
        "micro_f1": float(_ratio(2 * hits.sum(), said.sum() + positives.sum())),
        "hamming": float(_ratio(wrong, known.sum())),
    }


def grouped_recall(
    scores: np.ndarray, targets: np.ndarray, ks: Sequence[int] = (3, 5)
) -> dict[str, float]:
    """Recall of the k best attributes of one group, in the three variants found in papers.

    They differ by many points on the same predictions. An attribute that is unknown for a photo is
    left out of its ranking; of tied attributes the lower column ranks first.

    * "recall@k_pooled": positives among the k best, summed over photos, divided by all positives.
      DeepFashion papers report this variant.
    * "recall@k_per_image": per photo with a positive, those found divided by min(k, positives);
      mean over photos. It can reach 1 even if photos have more than k positives.
    * "recall@k_per_attribute": per attribute with a positive, the share of its photos in which it
      is among the k best; mean over attributes, so that rare ones count as much.
    """
    order = np.argsort(np.where(targets == 0, np.inf, -scores), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    yes = targets > 0
    per_image, per_attribute = yes.sum(axis=1), yes.sum(axis=0)
    if not yes.any():
        return {}
    recalls = {}
    for k in ks:
        found = yes & (rank < k) & np.isfinite(scores)
        share = _ratio(found.sum(axis=1), np.minimum(per_image, k))
        recalls[f"recall@{k}_pooled"] = float(found.sum() / yes.sum())
        recalls[f"recall@{k}_per_image"] = float(share[per_image > 0].mean())
        rates = _ratio(found.sum(axis=0), per_attribute)
        recalls[f"recall@{k}_per_attribute"] = float(rates[per_attribute > 0].mean())
    return recalls


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
