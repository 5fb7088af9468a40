"""The settings of a training of the multitask model."""

import dataclasses
from dataclasses import dataclass

from engine.backbones import BACKBONES
from engine.config import TrainingConfig, check_backbone_settings, flag_of, require, setting
from engine.description.criterion import ATTRIBUTE_LOSSES, ITEM_LOSSES
from engine.description.multitask import DEFAULT_TASKS, TASKS


@dataclass(frozen=True, kw_only=True)
class MultitaskConfig(TrainingConfig):
    """Training the multitask model."""

    dataset: tuple[str, ...] = setting(
        dataclasses.MISSING, "the datasets, each FORMAT:PATH[:key=value]... with FORMAT one of "
        "deepfashion, deepfashion-fine, inshop, consumer2shop, csv, coco or deepfashion2; keys: "
        'attributes=A,"B, C" (the groups to learn), category=, identity= (a column, or none), '
        "split= (to train on), val= (to evaluate on, or none), weight= (mean draws of each garment "
        "per epoch), annotations=, images=, name=, mask=no",
    )  # fmt: skip
    data_path: str | None = setting(None, "the folder, if --dataset is a single FORMAT without one")
    strict: bool = setting(False, "stop at the first faulty record instead of skipping it")
    trunk: str = setting("resnet50", "feature extractor", choices=BACKBONES)
    weights: str = setting(
        "imagenet", "the trunk's starting weights: imagenet (downloaded once), none, or a file: a "
        "checkpoint of ours or a bare backbone in torchvision's key names",
    )  # fmt: skip
    stride_in_1x1: bool = setting(
        False, "ResNet weights with the stride on a stage's first 1x1 convolution (Caffe, Keras) "
        "instead of its 3x3 (torchvision)",
    )  # fmt: skip
    trainable_layers: int = setting(
        3, "trainable trunk stages, counted from the top (ResNet 0-5, MobileNet 0-6)"
    )
    tasks: tuple[str, ...] = setting(
        DEFAULT_TASKS, "what to learn; tasks that no dataset has labels for are left out; box "
        "locates the garment in whole photos (with --whole-photo)", choices=TASKS,
    )  # fmt: skip
    category_branches: bool = setting(
        False, "separate branches of the category head for upper, lower and full body, where a "
        "dataset has these groups",
    )  # fmt: skip
    task_weights: tuple[str, ...] = setting(
        (), "loss weights of the tasks, like item=2 color=0.5 (others 1); or the word learned: "
        "weights by learned uncertainty",
    )  # fmt: skip
    attribute_loss: str = setting(
        "bce", "loss of multi-label attribute groups", choices=ATTRIBUTE_LOSSES
    )
    item_loss: str = setting("supcon", "loss on photos of one product", choices=ITEM_LOSSES)
    label_smoothing: float = setting(0.0, "label smoothing of single-label groups")
    class_weights: float = setting(
        0.0, "weight rare labels more: exponent of the inverse frequency, 0 = all equal, 1 = "
        "every label counts the same in total",
    )  # fmt: skip
    balance: float = setting(
        0.0, "draw rare categories more often: exponent of the inverse frequency, 0 = off"
    )
    photos_per_identity: int = setting(
        4, "photos per product in a batch, where datasets know products"
    )
    best_metric: str | None = setting(
        None, "the metric that selects the best checkpoint and stops early, as a path in "
        "metrics.json, like clothing/category/top1 (default: one of the first dataset evaluated)",
    )  # fmt: skip
    epochs: int = setting(20, "passes over the training sets")
    batch_size: int = setting(32, "garments per process and step", "-b")
    optimizer: str = setting("adamw", "update rule", choices=("sgd", "adamw"))
    lr_schedule: str = setting("cosine", "decay of the rate", choices=("multistep", "cosine"))
    backbone_lr_factor: float = setting(0.1, "the trunk's rate, as a multiple of the heads'")
    weight_decay: float = setting(0.01, "weight decay of filters and matrices only")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backbone_settings(self, self.trunk, "trainable_layers")
        require(len(self.dataset) > 0, "--dataset: give at least one FORMAT:PATH")
        bare = len(self.dataset) == 1 and ":" not in self.dataset[0]
        sentence = f"--data-path {self.data_path}: only goes with a single --dataset FORMAT"
        require(self.data_path is None or bare, sentence)
        require(len(self.tasks) > 0, "--tasks: give at least one")
        self.loss_weights()
        for name in ("class_weights", "balance", "label_smoothing"):
            flag, value = flag_of(name), getattr(self, name)
            require(0 <= value <= 1, f"{flag} {value}: must be between 0 and 1")
        require(self.label_smoothing < 1, "--label-smoothing 1: leaves nothing of the label")
        photos = self.photos_per_identity
        require(photos >= 2, f"--photos-per-identity {photos}: a pair takes at least 2")

    @property
    def specs(self) -> tuple[str, ...]:
        """The specs of ``--dataset``, with ``--data-path`` appended if it was given."""
        if self.data_path is None:
            return self.dataset
        return (f"{self.dataset[0]}:{self.data_path}",)

    def loss_weights(self) -> dict[str, float] | str:
        """``--task-weights`` as task -> weight, or "learned".

        Raises:
            InputError: anything else than ``task=number`` of a wanted task, or learned alone.
        """
        if self.task_weights == ("learned",):
            return "learned"
        weights = {}
        for text in self.task_weights:
            task, _, number = text.partition("=")
            sentence = f"--task-weights {text}: give TASK=NUMBER with a task of --tasks, or learned"
            require(task in self.tasks and number != "", sentence)
            try:
                weights[task] = float(number)
            except ValueError:
                require(False, sentence)
            require(0 <= weights[task] < float("inf"), f"--task-weights {text}: not a weight")
        return weights
