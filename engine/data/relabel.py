"""Initializes a network from one that was trained on other labels.

A classifier has one row per label. Rows of labels that both networks have are copied by name; the
other rows keep their initialization.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from engine.data.labels import ASPECTS, LabelSpace, index_by_text

if TYPE_CHECKING:
    from engine.description.multitask import Multitask

State = dict[str, Tensor]


def carry_over(
    state: State, labels: LabelSpace, tasks: tuple[str, ...], model: "Multitask"
) -> tuple[State, dict[str, int]]:
    """Adapt another multitask model's state dict to the labels of ``model``.

    Args:
        state, labels, tasks: of the other model.
        model: the model to initialize.

    Returns:
        The state dict for ``model``, and for each of its groups how many values both models have.
    """
    own = model.state_dict()
    attention = _attention(state, own, [a for a in ASPECTS if a in tasks], model.aspects)
    theirs = {g.name: (i, g) for i, g in enumerate(labels.groups_of_tasks(tasks))}
    carried = {n: t for n, t in state.items() if not n.startswith(("classifiers.", "criterion."))}
    found = {}
    for number, group in enumerate(model.groups):
        other_number, other = theirs.get(group.name, (None, None))
        rows = {} if other is None else _matching(group.values, other.values)
        found[group.name] = 0
        for part in ("weight", "bias"):
            name = f"classifiers.{number}.{part}"
            source = state.get(f"classifiers.{other_number}.{part}")
            if name not in own or source is None or source.shape[1:] != own[name].shape[1:]:
                continue  # a branched head, or one that reads other features
            table = own[name].clone()
            table[list(rows)] = source[list(rows.values())].to(table.dtype)
            carried[name] = table
            found[group.name] = len(rows)
    return carried | attention, found


def _attention(state: State, own: State, others: Sequence[str], aspects: Sequence[str]) -> State:
    """The rows of the attention's output layer, one per aspect, for aspects both models have."""
    shared = [aspect for aspect in aspects if aspect in others]
    carried = {}
    for part in ("weight", "bias"):
        name = f"aspect_heads.attention.look.{part}"
        if name in own and name in state:
            table = own[name].clone()
            rows = state[name][[others.index(aspect) for aspect in shared]]
            table[[aspects.index(aspect) for aspect in shared]] = rows.to(table.dtype)
            carried[name] = table
    return carried


def carry_categories(
    state: State,
    own: State,
    layers: tuple[str, ...],
    categories: Sequence[str],
    others: Sequence[str],
) -> tuple[State, int]:
    """Adapt another detector's state dict to the categories of this one.

    Args:
        state: the other detector's state dict.
        own: the state dict of this one; not changed.
        layers: prefixes of the tensors that hold R rows for the background, then R rows for each
            category (R = 4 for box offsets).
        categories: of this detector.
        others: the categories of the other one.

    Returns:
        The state dict for this detector, and how many of ``categories`` the other one has.
    """
    rows = {i + 1: j + 1 for i, j in _matching(categories, others).items()}
    here, there = [0, *rows], [0, *rows.values()]  # the background is the same
    carried = dict(state)
    for name in state.keys() & own.keys():
        if name.startswith(layers) and state[name].shape[1:] == own[name].shape[1:]:
            table = own[name].clone()
            new = table.unflatten(0, (1 + len(categories), -1))
            old = state[name].unflatten(0, (1 + len(others), -1))
            new[here] = old[there].to(table.dtype)
            carried[name] = table
    return carried, len(rows)


def _matching(values: Sequence[str], others: Sequence[str]) -> dict[int, int]:
    """Index in ``values`` -> index in ``others`` of every text in both, ignoring case."""
    own, theirs = index_by_text(values), index_by_text(others)
    return {i: theirs[text] for text, i in own.items() if text in theirs}
