"""The multitask model as a graph with named outputs for ONNX."""

from torch import Tensor, nn

from engine.description.branches import BranchedClassifier
from engine.description.multitask import Multitask
from engine.onnx_runtime import ASPECTS, LOGITS


class MultitaskGraph(nn.Module):
    """Crops and masks -> one tensor per label group and aspect, in the order of ``outputs``.

    Attributes:
        inputs: "images" u8[B,3,S,S], "masks" u8[B,S,S] and, with a branched classifier, "route"
            i64[B] (-1: unknown).
        outputs: "logits/GROUP" f32[B,V], "aspects/ASPECT" f32[B,d] and, with a box head, "boxes"
            f32[B,4].
    """

    def __init__(self, model: Multitask) -> None:
        super().__init__()
        self.model = model
        branched = any(isinstance(c, BranchedClassifier) for c in model.classifiers)
        self.inputs = ("images", "masks", "route") if branched else ("images", "masks")
        self.outputs = [LOGITS + group.name for group in model.groups]
        self.outputs += [ASPECTS + aspect for aspect in model.aspects]
        self.outputs += ["boxes"] if model.box_head else []

    def forward(self, images: Tensor, masks: Tensor, route: Tensor | None = None) -> list[Tensor]:
        found = self.model.describe(images, masks, route)
        logits, aspects = found["logits"], found["aspects"]
        named = {LOGITS + name: value for name, value in logits.items()}
        named |= {ASPECTS + name: value for name, value in aspects.items()}
        named |= {"boxes": found["boxes"]} if "boxes" in found else {}
        return [named[name] for name in self.outputs]
