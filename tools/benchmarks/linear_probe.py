"""How much of a label frozen features give away: a logistic regression on top of them."""

import logging
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from engine.data.labels import LabelSpace

logger = logging.getLogger("weft")

# Inverse strength of the L2 penalty; chosen on part of the training garments.
PENALTIES = (1e-3, 1e-2, 1e-1)
CHECKED = 5  # every fifth garment is kept for that choice
ROUNDS = 200  # of L-BFGS


def learn_labels(
    space: LabelSpace, targets: dict[str, np.ndarray], known: np.ndarray, features: np.ndarray
) -> dict[str, np.ndarray]:
    """Every exclusive group of labels that training garments tell apart -> its scores.

    Args:
        space: the groups.
        targets: group -> i64[N], of the training garments.
        known: f32[N,D], their features.
        features: f32[M,D], of the garments to score.
    """
    scores = {}
    for group in space.groups:
        truth = targets[group.name]
        if group.exclusive and len(np.unique(truth[truth >= 0])) > 1:
            logger.info("learning %s", group.name)
            scores[group.name] = fit_and_score(known, truth, features, len(group.values))
    return scores


def fit_and_score(
    train: np.ndarray, targets: np.ndarray, features: np.ndarray, values: int
) -> np.ndarray:
    """Learn on one part, score another.

    Args:
        train: f32[N,D].
        targets: i64[N], 0..values-1, negative = unknown: not learned from.
        features: f32[M,D].
        values: how many answers there are, seen or not.

    Returns:
        f32[M,values]: logits; -inf for answers that no training garment has.
    """
    known = targets >= 0
    scaler = StandardScaler().fit(train[known])
    train, targets = scaler.transform(train[known]), targets[known]
    model = _fit(train, targets, _best_penalty(train, targets))
    scores = np.full((len(features), values), -np.inf, np.float32)
    scores[:, model.classes_] = _logits(model, scaler.transform(features))
    return scores


def _best_penalty(train: np.ndarray, targets: np.ndarray) -> float:
    checked = np.arange(len(targets)) % CHECKED == 0
    if len(np.unique(targets[~checked])) < 2:
        return PENALTIES[0]
    scores = {
        penalty: _fit(train[~checked], targets[~checked], penalty).score(
            train[checked], targets[checked]
        )
        for penalty in PENALTIES
    }
    return max(scores, key=scores.__getitem__)


def _fit(features: np.ndarray, targets: np.ndarray, penalty: float) -> LogisticRegression:
    with warnings.catch_warnings():  # the last digit of the loss is not worth the rounds
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=penalty, max_iter=ROUNDS, tol=1e-3).fit(features, targets)


def _logits(model: LogisticRegression, features: np.ndarray) -> np.ndarray:
    """f[M,classes]; of two classes scikit-learn gives the second one's alone."""
    logits = model.decision_function(features)
    return logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], axis=1)
