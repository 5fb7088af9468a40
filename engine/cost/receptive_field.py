"""The theoretical and the effective receptive field of a network's feature maps.

Theoretical: the smallest box of pixels that can change a position of the map, as if the picture had
no border. It is computed exactly, backward through all paths of the graph; at a residual sum it is
the box around both fields. Layers that also see the whole picture through a global pool
(squeeze-excitation) are marked, and their field is that of the other paths.

Effective: how much each pixel changes the position, by gradients (Luo et al., Understanding the
Effective Receptive Field in Deep Convolutional Neural Networks, 2016). It is far smaller, since a
pixel in the middle has many more paths to the output than one at the edge of the box.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from engine.cost.flops import describe
from engine.cost.network_graph import NetworkGraph, up_to

Span = tuple[int, int]  # first and last position
Spans = tuple[Span, Span]  # vertical, horizontal
JOINS = ("add", "iadd", "cat")
VISIBLE = 1 - 0.9545  # share of the largest gradient from which a pixel counts as seen


@dataclass(frozen=True)
class Field:
    """The receptive field of the middle position of a layer's map.

    Attributes:
        name: path of the layer; for a join of paths, that of the module it is in.
        kind: such as "Conv2d 3x3 /2" or "add".
        map_size: (height, width) of its map.
        stride: pixels between neighboring positions, (vertical, horizontal).
        rows, columns: first and last pixel seen; may be outside the picture (padding).
        whole: whether it also sees the whole picture through a global pool.
        node: the graph's node.
    """

    name: str
    kind: str
    map_size: tuple[int, int]
    stride: tuple[float, float]
    rows: Span
    columns: Span
    whole: bool
    node: Node

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the field in pixels."""
        return self.rows[1] - self.rows[0] + 1, self.columns[1] - self.columns[0] + 1


def fields(graph: NetworkGraph) -> list[Field]:
    """The fields of all convolutions, pools and joins of paths whose output is a map."""
    found = []
    for node in graph.maps():
        joins = graph.operation(node) in JOINS and len(graph.sources(node)) > 1
        if joins or graph.gathers(node):
            found.append(field_of(graph, node))
    return found


def field_of(graph: NetworkGraph, node: Node) -> Field:
    """The field of the middle position of one map."""
    rows, columns = ((side // 2, side // 2) for side in graph.size(node))
    seen: dict[Node, Spans] = {node: (rows, columns)}
    whole = False
    order = list(graph.shapes)
    for each in reversed(order[1 : order.index(node) + 1]):
        if each not in seen:
            continue
        spans = seen.pop(each)
        for source in graph.sources(each):
            if graph.local[source]:
                wanted = tuple(
                    _input_span(graph, each, source, axis, spans[axis]) for axis in (0, 1)
                )
                seen[source] = _union(seen.get(source), wanted)
            else:
                whole = True
    layer = graph.layer(node)
    kind = describe(layer) if layer is not None else graph.operation(node)
    stride = graph.strides[node]
    return Field(graph.name(node), kind, graph.size(node), stride, *seen[graph.image], whole, node)


def _union(spans: Spans | None, more: Spans) -> Spans:
    if spans is None:
        return more
    pairs = zip(spans, more, strict=True)
    return tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)


def _input_span(graph: NetworkGraph, node: Node, source: Node, axis: int, span: Span) -> Span:
    """The positions along an axis of ``source`` from which positions of ``node`` are computed."""
    low, high = span
    window = graph.window(node)
    operation = graph.operation(node)
    if window:
        stride, padding = window.stride[axis], window.padding[axis]
        reach = window.dilation[axis] * (window.kernel[axis] - 1)
        if operation == "convtranspose2d":
            return -((reach - padding - low) // stride), (high + padding) // stride
        return low * stride - padding, high * stride - padding + reach
    before, after = graph.size(source)[axis], graph.size(node)[axis]
    if graph.pools_to_size(node):
        return low * before // after, -(-(high + 1) * before // after) - 1
    if operation in ("interpolate", "upsample"):
        return _interpolation_span(graph, node, span, before / after)
    return span if before == after else (0, 0)  # one position spread over all


def _interpolation_span(graph: NetworkGraph, node: Node, span: Span, ratio: float) -> Span:
    if graph.interpolation(node) == "nearest":
        return math.floor(span[0] * ratio), math.floor(span[1] * ratio)
    # Linear, between the centers of pixels.
    low, high = ((position + 0.5) * ratio - 0.5 for position in span)
    return math.floor(low), math.ceil(high)


def effective_field(graph: NetworkGraph, node: Node, images: Sequence[Tensor]) -> np.ndarray:
    """How much each pixel changes the middle position of a map: f64[H,W], scaled to a maximum of 1.

    Args:
        graph: of the network; only trained weights show the field that it has learned.
        node: the map.
        images: f32[1,3,H,W] each, of the traced size; their gradients are averaged.
    """
    part = up_to(graph, node)
    total = np.zeros(images[0].shape[-2:])
    for image in images:
        picture = image.detach().clone().requires_grad_()
        with torch.enable_grad():
            middle = _middle(part(picture), graph.axes[node])
            (gradient,) = torch.autograd.grad(middle.sum(), picture)
        total += gradient[0].abs().sum(0).double().cpu().numpy()
    return total / max(total.max(), np.finfo(float).tiny)


def _middle(features: Tensor, axes: tuple[int, int]) -> Tensor:
    for axis in sorted(axes):
        features = features.select(axis, features.shape[axis] // 2).unsqueeze(axis)
    return features


def effective_size(influence: np.ndarray) -> float:
    """Side in pixels of a square with the area of the pixels that visibly change the map.

    These have at least 4.55 % of the largest gradient (two standard deviations of a normal
    distribution). ``influence`` is the result of ``effective_field``.
    """
    return math.sqrt(float((influence >= VISIBLE * influence.max()).sum()))
