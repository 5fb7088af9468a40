"""A linear probe: logistic regression from frozen features to labels."""

import logging
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from engine.data.labels import LabelSpace

logger = logging.getLogger("weft")

# Inverse strengths of the L2 penalty to choose from, on part of the training garments.
PENALTIES = (1e-3, 1e-2, 1e-1)
HELD_OUT = 5  # every fifth garment is held out for that choice
ROUNDS = 200  # of L-BFGS


def learn_labels(
    space: LabelSpace, targets: dict[str, np.ndarray], known: np.ndarray, features: np.ndarray
) -> dict[str, np.ndarray]:
    """Learn every exclusive label group with at least two values among the training garments.

    Args:
        space: the groups.
        targets: group -> i64[N], of the training garments.
        known: f32[N,D], their features.
        features: f32[M,D], of the garments to score.

    Returns:
        group -> f32[M,values], as ``fit_and_score``.
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
    """Fit a logistic regression to some garments and score others.

    Args:
        train: f32[N,D], features to learn from.
        targets: i64[N], 0..values-1; negative ones are unknown and not learned from.
        features: f32[M,D], features to score.
        values: number of the label's values, whether they occur in ``targets`` or not.

    Returns:
        f32[M,values]: logits; -inf for values that no training garment has.
    """
    known = targets >= 0
    scaler = StandardScaler().fit(train[known])
    train, targets = scaler.transform(train[known]), targets[known]
    model = _fit(train, targets, _best_penalty(train, targets))
    scores = np.full((len(features), values), -np.inf, np.float32)
    scores[:, model.classes_] = _logits(model, scaler.transform(features))
    return scores


def _best_penalty(train: np.ndarray, targets: np.ndarray) -> float:
    held_out = np.arange(len(targets)) % HELD_OUT == 0
    if len(np.unique(targets[~held_out])) < 2:
        return PENALTIES[0]
    scores = {
        penalty: _fit(train[~held_out], targets[~held_out], penalty).score(
            train[held_out], targets[held_out]
        )
        for penalty in PENALTIES
    }
    return max(scores, key=scores.__getitem__)


def _fit(features: np.ndarray, targets: np.ndarray, penalty: float) -> LogisticRegression:
    with warnings.catch_warnings():  # converging to the last digit is not worth the time
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=penalty, max_iter=ROUNDS, tol=1e-3).fit(features, targets)


def _logits(model: LogisticRegression, features: np.ndarray) -> np.ndarray:
    """f[M,classes]; for two classes scikit-learn returns only the second one's."""
    logits = model.decision_function(features)
    return logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], axis=1)
