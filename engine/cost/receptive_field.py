"""What a network's feature maps see: the receptive field of every layer, in theory and in effect.

Theoretical: the smallest box of pixels outside of which nothing can change a position of the map,
as if the picture had no border. Worked out backward through the graph, exactly, for every path:
at a residual sum it is the box around both. What sees everything through a pool over the whole map
(squeeze-excitation) is marked, and its field is that of the other paths.

Effective: how much each pixel does change it, as gradients tell (Luo et al., Understanding the
Effective Receptive Field in Deep Convolutional Neural Networks, 2016). It is far smaller: a middle
pixel has many more ways to the output than one at the edge of the box.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from engine.cost.flops import describe
from engine.cost.network_graph import NetworkGraph, upto

Span = tuple[int, int]  # first and last position
Spans = tuple[Span, Span]  # vertical, horizontal
JOINS = ("add", "iadd", "cat")
VISIBLE = 1 - 0.9545  # share of the largest gradient from which on a pixel counts as seen


@dataclass(frozen=True)
class Field:
    """What the middle position of a layer's map sees.

    Attributes:
        name: path of the layer; where two paths meet, that of the module they meet in.
        kind: what it is, such as "Conv2d 3x3 /2", "add".
        map_size: (height, width) of its map.
        stride: pixels between neighboring positions, (vertical, horizontal).
        rows, columns: first and last pixel seen; negative or past the picture means its border.
        whole: it also sees the whole picture, through a pool over a whole map.
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
    """The field of every convolution, pool and meeting of paths that still has a map."""
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
                wanted = tuple(_needed(graph, each, source, axis, spans[axis]) for axis in (0, 1))
                seen[source] = _around(seen.get(source), wanted)
            else:
                whole = True
    layer = graph.layer(node)
    kind = describe(layer) if layer is not None else graph.operation(node)
    stride = graph.strides[node]
    return Field(graph.name(node), kind, graph.size(node), stride, *seen[graph.image], whole, node)


def _around(spans: Spans | None, more: Spans) -> Spans:
    if spans is None:
        return more
    pairs = zip(spans, more, strict=True)
    return tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)


def _needed(graph: NetworkGraph, node: Node, source: Node, axis: int, span: Span) -> Span:
    """The positions of a source that some positions of a node's map are computed from."""
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
        return _interpolated(graph, node, span, before / after)
    return span if before == after else (0, 0)  # one position spread over all


def _interpolated(graph: NetworkGraph, node: Node, span: Span, ratio: float) -> Span:
    if graph.interpolation(node) == "nearest":
        return math.floor(span[0] * ratio), math.floor(span[1] * ratio)
    # Linear, between the centers of pixels.
    low, high = ((position + 0.5) * ratio - 0.5 for position in span)
    return math.floor(low), math.ceil(high)


def effective_field(graph: NetworkGraph, node: Node, images: Sequence[Tensor]) -> np.ndarray:
    """How much each pixel changes the middle position of a map: f64[H,W], the largest 1.

    Args:
        graph: of the network, with real weights: random ones show its shape, not what it learned.
        node: the map.
        images: f32[1,3,H,W] each, of the size it was traced with; their gradients are averaged.
    """
    part = upto(graph, node)
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
    """Side, in pixels, of a square as large as the area that visibly changes the map.

    Visible is what has at least 4.55 % (two standard deviations of a normal distribution) of the
    largest gradient.
    """
    return math.sqrt(float((influence >= VISIBLE * influence.max()).sum()))
