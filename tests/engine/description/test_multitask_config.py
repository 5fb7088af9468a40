"""The multitask training's settings: flags and back, and bad values told in one sentence."""

import argparse
import dataclasses

import pytest

from engine.config import add_arguments, from_arguments
from engine.description.multitask_config import MultitaskConfig
from engine.errors import InputError

REQUIRED = ("--output-dir", "out")


def parse(*flags: str, dataset: str = "csv:shop") -> MultitaskConfig:
    parser = argparse.ArgumentParser()
    add_arguments(parser, MultitaskConfig)
    return from_arguments(
        MultitaskConfig, parser.parse_args([*REQUIRED, "--dataset", dataset, *flags])
    )


def test_the_parser_keeps_the_defaults():
    assert parse() == MultitaskConfig(output_dir="out", dataset=("csv:shop",))


def test_sets_add_up_and_a_bare_name_takes_the_data_path():
    assert parse("csv:a", "--dataset", "csv:b:weight=2").specs == (
        "csv:shop", "csv:a", "csv:b:weight=2",
    )  # fmt: skip
    assert parse("--data-path", "DF", dataset="deepfashion").specs == ("deepfashion:DF",)


def test_every_setting_of_its_own_has_a_flag_that_changes_it():
    flags = {
        "trunk": "resnet18", "weights": "none", "stride_in_1x1": None, "trainable_layers": "2",
        "tasks": "color", "category_branches": None, "task_weights": "item=2",
        "attribute_loss": "focal", "item_loss": "triplet", "label_smoothing": "0.1",
        "class_weights": "0.5", "balance": "0.5", "photos_per_identity": "3", "strict": None,
        "best_metric": "shop/item/R@1", "test_only": None, "epochs": "2", "batch_size": "7",
        "optimizer": "sgd", "lr_schedule": "multistep", "backbone_lr_factor": "1",
        "weight_decay": "0", "data_path": "x", "frozen_epochs": "1",
    }  # fmt: skip
    own = {field for field in MultitaskConfig.__annotations__ if field != "dataset"}
    assert own <= flags.keys()
    for name, value in flags.items():
        flag = ["--" + name.replace("_", "-"), *([] if value is None else [value])]
        changed = parse(*flag, dataset="csv" if name == "data_path" else "csv:shop")
        assert getattr(changed, name) != getattr(parse(), name), name


def test_task_weights():
    assert parse().loss_weights() == {}
    weights = parse("--task-weights", "item=2", "color=0", "--task-weights", "shape=.5")
    assert weights.loss_weights() == {"item": 2.0, "color": 0.0, "shape": 0.5}
    assert parse("--task-weights", "learned").loss_weights() == "learned"


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainable-layers", "6"], ["--trainable-layers", "7", "--trunk", "mobilenet_v3_large"],
        ["--frozen-epochs", "1", "--weights", "none"], ["--tasks"], ["--balance", "1.5"],
        ["--class-weights", "-1"], ["--label-smoothing", "1"], ["--photos-per-identity", "1"],
        ["--task-weights", "item"], ["--task-weights", "item=x"], ["--task-weights", "item=-1"],
        ["--task-weights", "item=nan"], ["--task-weights", "learned", "item=2"],
        ["--task-weights", "item=2", "--tasks", "color"], ["--data-path", "shop"], ["-b", "0"],
    ],
)  # fmt: skip
def test_bad_values_name_the_flag(flags):
    with pytest.raises(InputError, match=flags[0] if flags[0] != "-b" else "--batch-size"):
        parse(*flags)


def test_no_dataset_is_an_error():
    with pytest.raises(InputError, match="--dataset"):
        dataclasses.replace(parse(), dataset=())
