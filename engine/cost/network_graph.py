"""A convolutional network as a graph of operations, with size and stride of every feature map.

The graph is traced by ``torch.fx``, so it includes branches, residual sums and functions between
the modules. It can be cut (``up_to``, ``without_last``) and dilated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node, symbolic_trace

from engine.errors import InputError

Pair = tuple[float, float]

# Operations that compute each position from the same position of the inputs; names without
# underscores.
POINTWISE = {
    *("add", "iadd", "sub", "mul", "imul", "div", "truediv", "neg", "clamp", "float", "to"),
    *("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu", "elu"),
    *("leakyrelu", "mish", "batchnorm", "batchnorm2d", "layernorm", "linear", "dropout"),
    *("identity", "stochasticdepth", "contiguous", "clone"),
}  # fmt: skip
REARRANGING = {
    *("view", "reshape", "flatten", "unsqueeze", "squeeze", "getitem", "chunk", "split"),
    *("transpose", "mean"),
}  # fmt: skip


@dataclass(frozen=True)
class Window:
    """The window of a convolution or pool, each (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


class NetworkGraph:
    """The operations of a network for one picture size.

    Attributes:
        model: the network.
        module: the same, as traced.
        shapes: node -> shape, for every tensor that depends on the picture.
        axes: node -> its (vertical, horizontal) dimensions, counted from the back; None if it has
            no spatial dimensions (a flattened map).
        local: node -> whether it depends on positions, not only through a global pool.
        strides: node with axes -> pixels between neighboring positions, (vertical, horizontal).
    """

    def __init__(self, model: nn.Module, module: GraphModule, image: Tensor) -> None:
        self.model, self.module = model, module
        self.image = next(n for n in module.graph.nodes if n.op == "placeholder")
        self.shapes: dict[Node, tuple[int, ...]] = {}
        self.axes: dict[Node, tuple[int, int] | None] = {}
        self.local = {self.image: True}
        self.strides: dict[Node, Pair] = {self.image: (1.0, 1.0)}
        # Caches, since walking the graph asks for these repeatedly.
        self._operations: dict[Node, str] = {}
        self._windows: dict[Node, Window | None] = {}
        self._sources: dict[Node, list[Node]] = {}
        _ShapeReader(self).run(image)
        self.axes[self.image] = (-2, -1)
        for node in list(self.shapes)[1:]:
            self.axes[node] = self._axes_of(node)
            self.local[node] = not self._is_global(node) and any(
                self.local[source] for source in self.sources(node)
            )
            if self.axes[node]:
                self.strides[node] = self._stride_of(node)

    def maps(self) -> Iterator[Node]:
        """Nodes that are feature maps, in order of execution."""
        nodes = list(self.shapes)[1:]
        return (node for node in nodes if self.axes[node] and self.local[node])

    def sources(self, node: Node) -> list[Node]:
        """The inputs of a node that depend on the picture."""
        if node not in self._sources:
            self._sources[node] = [n for n in node.all_input_nodes if n in self.shapes]
        return self._sources[node]

    def size(self, node: Node) -> tuple[int, int]:
        """(height, width) of a map."""
        y, x = self.axes[node]
        return self.shapes[node][y], self.shapes[node][x]

    def operation(self, node: Node) -> str:
        """Lower-case name without underscores: "conv2d", "maxpool2d", "add", "interpolate"."""
        if node not in self._operations:
            name = node.target if isinstance(node.target, str) else node.target.__name__
            if node.op == "call_module":
                name = type(self.layer(node)).__name__
            self._operations[node] = name.replace("_", "").lower()
        return self._operations[node]

    def layer(self, node: Node) -> nn.Module | None:
        """The module of a node: one that is called, or a convolution run as a function."""
        if node.op == "call_module":
            return self.model.get_submodule(node.target)
        path = self._weight_path(node)
        return self.model.get_submodule(path) if path else None

    def name(self, node: Node) -> str:
        """Path of a node's module; for a function, that of the module which calls it."""
        if node.op == "call_module":
            return node.target
        path = self._weight_path(node)
        if path:
            return path
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        return stack[-1][0] if stack else node.name

    def _weight_path(self, node: Node) -> str | None:
        """Path of the convolution whose weight, possibly scaled, a function uses; else None."""
        if self.operation(node) != "conv2d":
            return None
        weight = _argument(node, 1, "weight")
        while weight.op == "call_function":
            weight = weight.args[0]
        return weight.target.rpartition(".")[0]

    def window(self, node: Node) -> Window | None:
        """The window of a convolution, transposed convolution or pool; None of anything else."""
        if node not in self._windows:
            self._windows[node] = self._find_window(node)
        return self._windows[node]

    def _find_window(self, node: Node) -> Window | None:
        operation, layer = self.operation(node), self.layer(node)
        if operation not in ("conv2d", "convtranspose2d", "maxpool2d", "avgpool2d"):
            return None
        if layer is not None:
            kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
            dilation = getattr(layer, "dilation", 1)
        else:
            kernel = _argument(node, 1, "kernel_size")
            stride = _argument(node, 2, "stride") or kernel
            padding, dilation = _argument(node, 3, "padding") or 0, 1
        return Window(*map(_pair, (kernel, stride, padding, dilation)))

    def interpolation(self, node: Node) -> str:
        """The mode of an interpolation: "nearest" or "linear".

        Raises:
            InputError: another mode.
        """
        layer = self.layer(node)
        mode = layer.mode if layer is not None else _argument(node, 3, "mode") or "nearest"
        aligned = layer.align_corners if layer is not None else node.kwargs.get("align_corners")
        if mode not in ("nearest", "bilinear") or aligned:
            raise InputError(f"cannot follow {self.name(node)}: {mode} interpolation")
        return mode.removeprefix("bi")

    def _is_global(self, node: Node) -> bool:
        """Whether a node pools over the whole map."""
        operation = self.operation(node)
        pools = self.pools_to_size(node) and self.shapes[node][-2:] == (1, 1)
        return pools or (operation == "mean" and self.shapes[node] != self.shapes[node.args[0]])

    def _axes_of(self, node: Node) -> tuple[int, int] | None:
        maps = [n for n in self.sources(node) if self.axes[n]]
        if not maps:
            return None
        operation = self.operation(node)
        if any(self.local[n] and not self.axes[n] for n in self.sources(node)):
            raise InputError(f"cannot follow {self.name(node)}: it puts a vector back into a map")
        before, shape = self.axes[maps[0]], self.shapes[maps[0]]
        if operation == "permute":
            return _permuted(before, _dimensions(node))
        if operation in REARRANGING:
            kept = before == (-2, -1) and self.shapes[node][-2:] == shape[-2:]
            return before if kept else None
        if operation not in POINTWISE and not self.gathers(node):
            kind = f"{operation} in {self.name(node)}" if self.name(node) else operation
            raise InputError(f"cannot follow {kind}: receptive fields need a convolutional network")
        return before

    def gathers(self, node: Node) -> bool:
        """Whether each position is computed from several positions or from several maps."""
        if self.window(node):
            return True
        operation = self.operation(node)
        return operation in ("cat", "interpolate", "upsample") or self.pools_to_size(node)

    def pools_to_size(self, node: Node) -> bool:
        """Whether it is an adaptive pool, whose windows follow from its output size."""
        return self.operation(node) in ("adaptiveavgpool2d", "adaptivemaxpool2d")

    def _stride_of(self, node: Node) -> Pair:
        # The largest source decides, not a map of one position (squeeze-excitation).
        maps = [n for n in self.sources(node) if self.axes[n]]
        source = max(maps, key=lambda n: self.size(n)[0] * self.size(n)[1])
        (y, x), window = self.strides[source], self.window(node)
        if window and self.operation(node) == "convtranspose2d":
            return y / window.stride[0], x / window.stride[1]
        if window:
            return y * window.stride[0], x * window.stride[1]
        if self.operation(node) in ("interpolate", "upsample") or self.pools_to_size(node):
            before, after = self.size(source), self.size(node)
            return y * before[0] / after[0], x * before[1] / after[1]
        return y, x


class _ShapeReader(Interpreter):
    """Runs the graph once and records the shapes of all nodes that depend on the picture."""

    def __init__(self, graph: NetworkGraph) -> None:
        super().__init__(graph.module)
        self.shapes, self.picture = graph.shapes, graph.image

    @torch.no_grad()
    def run_node(self, node: Node) -> Any:
        result = super().run_node(node)
        depends = node is self.picture or any(n in self.shapes for n in node.all_input_nodes)
        tensor = result[0] if isinstance(result, tuple | list) and result else result
        if depends and isinstance(tensor, Tensor) and node.op != "output":
            self.shapes[node] = tuple(tensor.shape)
        return result


def trace(model: nn.Module, image: Tensor) -> NetworkGraph:
    """Trace a network in evaluation mode, for pictures of the size of ``image``.

    Args:
        model: takes one tensor.
        image: f32[B,3,H,W].

    Raises:
        InputError: it is not a convolutional network, or its Python code cannot be traced.
    """
    try:
        module = symbolic_trace(model)
    except (torch.fx.proxy.TraceError, TypeError) as error:
        raise InputError(f"{type(model).__name__} cannot be traced: {error}") from error
    return NetworkGraph(model, module, image)


def up_to(graph: NetworkGraph, node: Node) -> GraphModule:
    """The part of the network from the picture to one node, which becomes its output."""
    part = Graph()
    copies: dict[Node, Node] = {}
    for each in graph.module.graph.nodes:
        copies[each] = part.node_copy(each, copies.__getitem__)
        if each is node:
            break
    part.output(copies[node])
    module = GraphModule(graph.module, part, type(graph.module).__name__)
    module.graph.eliminate_dead_code()
    module.recompile()
    module.delete_all_unused_submodules()
    return module.eval()


def without_last(graph: NetworkGraph, blocks: int) -> GraphModule:
    """The network's body without its last blocks, ending in a map; 0 only removes the head.

    A block is a part with a convolution: a member of one of the network's lists of layers (such as
    a residual block), or a part outside of them.

    Raises:
        InputError: the network does not have more than that many blocks.
    """
    firsts: dict[str, Node] = {}
    for node in graph.maps():
        if graph.operation(node) == "conv2d":
            firsts.setdefault(_block_of(node), node)
    if not 0 <= blocks < len(firsts):
        raise InputError(
            f"--drop-last {blocks}: the network has {len(firsts)} blocks, at least one must stay"
        )
    if blocks == 0:
        return up_to(graph, list(graph.maps())[-1])
    entry = list(firsts.values())[-blocks]
    return up_to(graph, graph.sources(entry)[0])


def _block_of(node: Node) -> str:
    """Path of the block that a node is in."""
    stack = [place for place in node.meta["nn_module_stack"].values() if place[0]]
    outermost, kind = stack[0]
    is_list = isinstance(kind, type) and issubclass(kind, nn.Sequential)
    return stack[1][0] if is_list and len(stack) > 1 else outermost


def dilate(model: nn.Module, image: Tensor, halvings: int) -> None:
    """Replace the last ``halvings`` strides of a network by dilation, in place.

    The layers after a removed stride get a larger dilation, so that each output position is
    computed from the same pixels as before; the maps get finer (Chen et al., DeepLab, 2017;
    torchvision's replace_stride_with_dilation).

    Raises:
        InputError: the network has fewer halvings, or a layer that cannot be dilated.
    """
    graph = trace(model, image)
    coarsest = max(max(graph.strides[node]) for node in graph.maps())
    limit = coarsest / 2**halvings
    if halvings < 0 or limit < 1:
        most = int(coarsest).bit_length() - 1
        raise InputError(f"--dilate {halvings}: the network halves the map {most} times")
    for node in graph.maps():
        if graph.window(node) and max(graph.strides[node]) > limit:
            before = max(graph.strides[graph.sources(node)[0]])
            _spread(graph, node, int(max(before / limit, 1)), int(max(limit / before, 1)))


def _spread(graph: NetworkGraph, node: Node, factor: int, stride: int) -> None:
    """Multiply a layer's dilation by ``factor`` and set its stride."""
    window, layer = graph.window(node), graph.layer(node)
    same = all(
        2 * p == d * (k - 1)
        for k, p, d in zip(window.kernel, window.padding, window.dilation, strict=True)
    )
    if not same or not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
        kind = f"{graph.name(node)} ({graph.operation(node)})"
        raise InputError(f"--dilate: {kind} cannot be dilated without changing the map's size")
    layer.stride = (stride, stride)
    if max(window.kernel) > 1:
        layer.dilation = tuple(factor * d for d in window.dilation)
        layer.padding = tuple(factor * p for p in window.padding)


def _argument(node: Node, position: int, name: str) -> Any:
    """A function's argument, given by position or name; None if omitted."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _dimensions(node: Node) -> list[int]:
    """The order of dimensions of a permute, given as numbers or as one list."""
    given = node.args[1:] or (node.kwargs["dims"],)
    return list(given[0]) if isinstance(given[0], list | tuple) else list(given)


def _permuted(axes: tuple[int, int], order: list[int]) -> tuple[int, int]:
    count = len(order)
    places = [d % count for d in order]
    return tuple(places.index(axis % count) - count for axis in axes)
