"""Settings as dataclasses: one definition gives the defaults, the flags, the help and the checks.

A field is declared once with ``setting(default, help, ...)``; ``add_arguments`` turns a dataclass
into flags, ``from_arguments`` turns the parsed flags back into the dataclass (whose
``__post_init__`` validates), and ``plain`` makes what the run folder and the checkpoint keep.
"""

import argparse
import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.errors import InputError

Settings = TypeVar("Settings")


def setting(default: Any, help: str, *flags: str, choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field that knows its help text, its short flags and its allowed values."""
    metadata = {"help": help, "flags": flags, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def flag_of(name: str) -> str:
    """The flag of a setting: ``field_name`` becomes ``--field-name``."""
    return "--" + name.replace("_", "-")


def add_arguments(parser: argparse.ArgumentParser, settings_class: type) -> None:
    """Add one flag per field, see ``flag_of``; bools get ``--no-`` twins.

    A field without a default becomes a required flag.
    """
    group = parser.add_argument_group(settings_class.__doc__.splitlines()[0].rstrip("."))
    for field in dataclasses.fields(settings_class):
        names = (*field.metadata.get("flags", ()), flag_of(field.name))
        required = field.default is dataclasses.MISSING
        default = None if required else field.default
        help_text = field.metadata["help"].replace("%", "%%")
        if not required and default not in (None, ()):
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            help_text += f" (default: {shown})"
        kind, many = _value_type(field.type)
        if kind is bool:
            options = {"action": argparse.BooleanOptionalAction}
        else:
            options = {"type": kind, "choices": field.metadata.get("choices")}
            if many:
                options |= {"nargs": "*", "action": _Collect}
            elif options["choices"] is None:
                options["metavar"] = kind.__name__.upper()
        group.add_argument(
            *names, dest=field.name, default=default, required=required, help=help_text, **options
        )


class _Collect(argparse.Action):
    """A repeated flag appends its values; its first use replaces the default."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else before + values)


def from_arguments(settings_class: type[Settings], arguments: argparse.Namespace) -> Settings:
    """Build the dataclass from parsed flags; its own checks raise InputError."""
    values = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(settings_class)}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return settings_class(**(values | lists))


def _value_type(annotation: Any) -> tuple[type, bool]:
    """``int | None`` -> (int, False); ``tuple[int, ...]`` -> (int, True)."""
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def plain(settings: Any) -> dict[str, Any]:
    """A settings dataclass as a dict for checkpoints and JSON: tuples become lists."""
    values = dataclasses.asdict(settings)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def require(condition: bool, sentence: str) -> None:
    """Raise InputError with the sentence unless the condition holds."""
    if not condition:
        raise InputError(sentence)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training."""

    output_dir: str = setting(dataclasses.MISSING, "run folder: checkpoints, logs, curves")
    epochs: int = setting(26, "passes over the training set")
    batch_size: int = setting(2, "photos per process and step", "-b")
    accumulate: int = setting(1, "micro-batches summed into one optimizer step")
    workers: int = setting(4, "loader processes per training process", "-j")
    seed: int = setting(0, "seed of sampling, augmentation and RoI sampling")
    device: str = setting("auto", "where to train", choices=("auto", "cpu", "cuda"))
    precision: str = setting(
        "fp32", "arithmetic under autocast; fp16 is for GPUs, CPUs take minutes for a step of it",
        choices=("fp32", "bf16", "fp16"),
    )  # fmt: skip
    channels_last: bool = setting(True, "keep activations channels-last in memory (faster)")
    compile: bool = setting(False, "compile the backbone with torch.compile")
    optimizer: str = setting("sgd", "update rule", choices=("sgd", "adamw"))
    lr: float | None = setting(
        None, "learning rate, used as given; without it, 0.02 for sgd or 0.0002 for adamw at a "
        "global batch of 16, scaled with the batch (sgd) or its square root (adamw)",
    )  # fmt: skip
    backbone_lr_factor: float = setting(
        1.0, "learning rate of the pretrained backbone body, as a multiple of the rest's"
    )
    frozen_epochs: int = setting(
        0, "epochs at the start in which that body is frozen and only the rest is trained"
    )
    momentum: float = setting(0.9, "SGD momentum")
    weight_decay: float = setting(1e-4, "weight decay of filters and matrices only")
    warmup_steps: int = setting(500, "steps of linear warm-up (at most a tenth of the training)")
    lr_schedule: str = setting("multistep", "decay of the rate", choices=("multistep", "cosine"))
    lr_steps: tuple[int, ...] = setting((16, 22), "multistep: epochs after which the rate drops")
    lr_gamma: float = setting(0.1, "multistep: factor of each drop")
    clip_norm: float = setting(10.0, "largest gradient norm, 0 = no clipping")
    ema_decay: float = setting(0.0, "decay of the weight average that is evaluated, 0 = none")
    max_bad_steps: int = setting(20, "abort after so many skipped (non-finite) steps in a row")
    log_every: int = setting(20, "steps between log lines")
    test_only: bool = setting(False, "evaluate the weights and stop")
    checkpoint_every: int = setting(500, "steps between checkpoints (each epoch ends with one too)")
    eval_every: int = setting(1, "epochs between evaluations, 0 = never")
    patience: int = setting(0, "stop after so many evaluations without a new best, 0 = never")
    resume: str = setting(
        "auto",
        "auto: continue what is in --output-dir; none: start over, at every restart; or a "
        "checkpoint file to continue from where --output-dir is empty",
    )

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "accumulate", "log_every", "checkpoint_every")
        for name in (*positive, "max_bad_steps"):
            flag = flag_of(name)
            require(getattr(self, name) >= 1, f"{flag} {getattr(self, name)}: must be at least 1")
        for name in ("workers", "warmup_steps", "clip_norm", "eval_every", "patience",
                     "weight_decay", "seed", "backbone_lr_factor", "frozen_epochs"):  # fmt: skip
            flag = flag_of(name)
            require(getattr(self, name) >= 0, f"{flag} {getattr(self, name)}: must not be negative")
        require(self.seed < 2**63, f"--seed {self.seed}: must be below 2^63")
        usable = self.lr is None or 0 < self.lr < math.inf
        require(usable, f"--lr {self.lr}: must be positive and finite")
        require(0 <= self.momentum < 1, f"--momentum {self.momentum}: must be in [0, 1)")
        require(0 <= self.ema_decay < 1, f"--ema-decay {self.ema_decay}: must be in [0, 1)")
        require(0 < self.lr_gamma <= 1, f"--lr-gamma {self.lr_gamma}: must be in (0, 1]")
        steps = self.lr_steps
        increasing = list(steps) == sorted(set(steps)) and min(steps, default=1) > 0
        require(increasing, f"--lr-steps {steps}: must be positive and increasing")


def check_backbone_settings(config: Any, name: str, layers_field: str) -> None:
    """Check the settings that concern the backbone's body.

    Args:
        config: a DetectorConfig or MultitaskConfig.
        name: of the body, one of ``engine.backbones.BACKBONES``.
        layers_field: the field of ``config`` that holds the number of trainable stages.

    Raises:
        InputError: a frozen body without pretrained weights, or a number of stages it lacks.
    """
    useful = config.weights != "none" or config.frozen_epochs == 0
    require(useful, "--frozen-epochs: would freeze a random body; use other --weights than none")
    layers, limit = getattr(config, layers_field), 6 if name == "mobilenet_v3_large" else 5
    require(0 <= layers <= limit, f"{flag_of(layers_field)} {layers}: {name} has 0 to {limit}")
