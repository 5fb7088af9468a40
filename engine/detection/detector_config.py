"""The settings of a training of the detector."""

import dataclasses
from dataclasses import dataclass

from engine.backbones import BACKBONES, PYRAMID_CHANNELS
from engine.config import TrainingConfig, check_backbone_settings, flag_of, require, setting
from engine.detection.detector import ARCHITECTURES


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(TrainingConfig):
    """Training the detector."""

    dataset: str = setting("coco", "format of the annotations", choices=("coco", "deepfashion2"))
    data_path: str = setting(dataclasses.MISSING, "root folder of the dataset")
    annotations: str | None = setting(
        None, "coco: annotation file of the training split; without it, train.json or "
        "annotations/instances_train*.json in --data-path, or train/_annotations.coco.json",
    )  # fmt: skip
    val_annotations: str | None = setting(
        None, "coco: annotation file of the validation split; without it, the same names with val"
    )
    images: str | None = setting(
        None, "coco: folder that the file names are relative to; without it, the usual ones are "
        "tried: images, train, train2017 ... in --data-path",
    )  # fmt: skip
    strict: bool = setting(False, "stop at the first faulty record instead of skipping it")
    class_agnostic: bool = setting(False, "one class, garment, instead of the categories")
    arch: str = setting("maskrcnn", "network", choices=ARCHITECTURES)
    backbone: str = setting("resnet50", "feature extractor", choices=BACKBONES)
    weights: str = setting(
        "imagenet", "imagenet or coco (downloaded once), none, or a file: a checkpoint of ours or "
        "a bare backbone in torchvision's key names",
    )  # fmt: skip
    stride_in_1x1: bool = setting(
        False, "ResNet weights with the stride on a stage's first 1x1 convolution (Caffe, Keras) "
        "instead of its 3x3 (torchvision)",
    )  # fmt: skip
    trainable_backbone_layers: int = setting(
        3, "trainable backbone stages, counted from the top (ResNet 0-5, MobileNet 0-6)"
    )
    pyramid_channels: int = setting(
        PYRAMID_CHANNELS, "channels of the pyramid and of the heads on it: 256 in downloaded coco "
        "weights; 128 is about half the work, and 30 MB less in fp16",
    )  # fmt: skip
    rois_per_image: int = setting(512, "proposals sampled per photo for the box and mask losses")
    box_dropout: float = setting(
        0.0, "dropout on the box head's input (whole channels) and output; against overfitting on "
        "small datasets",
    )  # fmt: skip
    masks: bool = setting(True, "train the mask branch (datasets without masks train boxes only)")
    test_short_side: int = setting(800, "evaluation and inference: the photo's short side")
    test_max_side: int = setting(1333, "evaluation and inference: bound on the long side")
    test_mirror: bool = setting(
        False,
        "evaluation and inference: average over the photo and its mirror image, twice the work",
    )
    test_close_up: float = setting(
        0.0,
        "evaluation and inference: a photo with a garment of at least this size, the square root "
        "of the box's area as a share of the photo's short side, is a close-up, whose large "
        "garments are detected in the photo at half its size; a quarter more work, for a detector "
        "that has seen few close-ups; 0 = off",
    )
    test_zoom: float = setting(
        0.0,
        "evaluation and inference: in a photo whose largest garment is below this size, the square "
        "root of the box's area as a share of --test-short-side, the part with garments is "
        "enlarged and detected again; for a detector that has seen few small garments; 0 = off",
    )
    aspect_ratio_group_factor: int = setting(
        3,
        "k: batches hold photos of similar aspect ratio, grouped at 2k+1 borders from 1:2 to 2:1 "
        "(0: one border at 1:1), -1 = no grouping",
    )
    repeat_threshold: float = setting(
        0.0,
        "oversample photos with categories that occur in less than this share of the photos "
        "(LVIS repeat factor sampling), 0 = off",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        side, bound = self.test_short_side, self.test_max_side
        check_backbone_settings(self, self.backbone, "trainable_backbone_layers")
        require(32 <= side <= bound, f"--test-short-side {side}: must be in 32..{bound}")
        for name in ("test_close_up", "test_zoom"):
            value = getattr(self, name)
            sentence = f"{flag_of(name)} {value}: must be a number from 0 to 1"
            require(0 <= value <= 1, sentence)
        require(self.pyramid_channels >= 8, "--pyramid-channels: must be at least 8")
        require(self.rois_per_image >= 1, "--rois-per-image: must be at least 1")
        require(0 <= self.box_dropout < 1, f"--box-dropout {self.box_dropout}: must be in [0, 1)")
        factor = self.aspect_ratio_group_factor
        require(factor >= -1, f"--aspect-ratio-group-factor {factor}: must be -1 or more")
        require(0 <= self.repeat_threshold <= 1, "--repeat-threshold: must be between 0 and 1")
