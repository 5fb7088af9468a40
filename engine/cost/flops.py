"""Parameters and multiply-accumulates (MACs) of every layer, counted while the network runs.

1 MAC = 2 FLOPs. Convolutions, matrix products and attention are counted, including products with
padding zeros. Bias, normalization, activation, pooling (including RoIAlign), resizing and box
selection are not: they take few FLOPs, though a larger share of the time. torchvision publishes
MACs by the same rules, under the name GFLOPS.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerCost:
    """The cost of one module, without the modules inside it.

    Attributes:
        name: path of the module in the network, "" for the network itself.
        kind: such as "Conv2d 3x3 /2 groups 32".
        output: shape of its last output (a network may use a layer several times), None if that
            is not a tensor.
        parameters: number of parameters, trainable or frozen; shared ones count once.
        macs: multiply-accumulates for the whole batch.
    """

    name: str
    kind: str
    output: Shape | None
    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        return 2 * self.macs


@torch.no_grad()
def layer_costs(model: nn.Module, *inputs: Any) -> list[LayerCost]:
    """Run ``model(*inputs)`` once and count the cost of each module that has any, in order.

    The sums are the network's totals. A detector's cost depends on the number of detections.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_OPERATIONS)
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    # The fast path is one opaque operation, whose parts cannot be counted.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _recording_outputs(model, counter) as outputs, counter:
            model(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    totals = {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    return list(_rows(model, totals, outputs))


def _attention_flops(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


# The counter knows the accelerators' fused attention but not the CPU's.
_MORE_OPERATIONS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


@contextmanager
def _recording_outputs(model: nn.Module, counter: FlopCounterMode) -> Iterator[dict[str, Shape]]:
    """Record each module's output shape, and count each convolution under its own name.

    The counter only sees modules that are called, but a block may run a convolution's arithmetic
    without calling it (``engine.backbones`` folds the norm into the filters). So the name is set
    around the arithmetic itself.
    """
    outputs: dict[str, Shape] = {}
    handles, wrapped = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            full = _counter_name(model, name)
            module._conv_forward = _named(module._conv_forward, name, full, counter, outputs)
            wrapped.append(module)
        else:
            handles.append(module.register_forward_hook(_shape_hook(name, outputs)))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
        for module in wrapped:
            del module._conv_forward


def _named(
    forward: Any, name: str, full: str, counter: FlopCounterMode, outputs: dict[str, Shape]
) -> Any:
    def run(*arguments: Any) -> Tensor:
        parents = counter.mod_tracker.parents
        added = full not in parents
        parents.add(full)
        result = forward(*arguments)
        if added:
            parents.discard(full)
        outputs[name] = tuple(result.shape)
        return result

    return run


def _shape_hook(name: str, outputs: dict[str, Shape]) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs[name] = tuple(output.shape)

    return hook


def _counter_name(model: nn.Module, name: str) -> str:
    """The counter's name of a module: the network's class, then the path."""
    top = type(model).__name__
    return f"{top}.{name}" if name else top


def _rows(
    model: nn.Module, totals: dict[str, int], outputs: dict[str, Shape]
) -> Iterator[LayerCost]:
    own = _own_flops(model, totals)
    seen: set[int] = set()
    for name, module in model.named_modules():
        held = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, held))
        parameters = sum(p.numel() for p in held)
        if own[name] or parameters:
            yield LayerCost(name, describe(module), outputs.get(name), parameters, own[name] // 2)


def _own_flops(model: nn.Module, totals: dict[str, int]) -> dict[str, int]:
    """Module path -> its FLOPs without those of the modules inside it.

    Modules that never run themselves (such as a ModuleList) are skipped.
    """
    own = {name: totals.get(_counter_name(model, name), 0) for name, _ in model.named_modules()}
    for name, total in list(own.items()):
        outer = name
        while total and outer:
            outer = outer.rpartition(".")[0]
            if _counter_name(model, outer) in totals:
                own[outer] -= total
                break
    return own


def describe(module: nn.Module) -> str:
    """Class and settings that determine the cost: "Conv2d 3x3 /2 groups 32 dilation 2"."""
    name = type(module).__name__
    if isinstance(module, nn.Linear):
        return f"{name} {module.in_features} -> {module.out_features}"
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return name
    text = f"{name} {_pair(module.kernel_size)}"
    if max(module.stride) > 1:
        same = len(set(module.stride)) == 1
        text += f" /{module.stride[0] if same else _pair(module.stride)}"
    if module.groups > 1:
        text += f" groups {module.groups}"
    if max(module.dilation) > 1:
        same = len(set(module.dilation)) == 1
        text += f" dilation {module.dilation[0] if same else _pair(module.dilation)}"
    return text


def _pair(values: tuple[int, ...]) -> str:
    return "x".join(map(str, values))
