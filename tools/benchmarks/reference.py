"""The same work done as in torchvision's detection references.

PIL decodes a photo at full size, each garment is a bitmap as large as the photo, transforms run one
after another, the model takes float photos and resizes them and the bitmaps itself, and pastes
predicted masks into full-size float maps, which are encoded one by one.
"""

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from data_aug import DetectorAugmentation
from engine.data.records import Garment, Photo, PhotoRecords
from engine.detection.detector import Detector

PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Sample = tuple[Tensor, dict[str, Tensor]]


class ReferencePhotos(torch.utils.data.Dataset):
    """Index -> f32[3,H,W] photo in 0..1 at full size, and boxes, labels, masks u8[N,H,W]."""

    def __init__(self, records: PhotoRecords, augmentation: DetectorAugmentation) -> None:
        self.records = records
        self.transforms = _transforms(augmentation)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        photo = self.records[index]
        image = Image.open(photo.path).convert("RGB")
        image, target = self.transforms(image, _target(photo))
        plain = {name: value.as_subclass(Tensor) for name, value in target.items()}
        return image.as_subclass(Tensor), plain


def _transforms(settings: DetectorAugmentation) -> v2.Compose:
    """The enabled parts of the augmentation, as separate steps."""
    steps = []
    strengths = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    if any(strengths):
        steps.append(v2.ColorJitter(*strengths))
    if settings.affine:
        shift = (settings.translation, settings.translation)
        affine = v2.RandomAffine(settings.rotation, shift, settings.scale, settings.shear)
        steps.append(v2.RandomApply([affine], settings.affine))
    steps += [v2.RandomHorizontalFlip(settings.flip), v2.ToImage()]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])


def _target(photo: Photo) -> dict[str, Tensor]:
    boxes = np.array([garment.box for garment in photo.garments], np.float32).reshape(-1, 4)
    size = (photo.height, photo.width)
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.tensor([garment.category + 1 for garment in photo.garments]),
    }
    if all(garment.segmentation is not None for garment in photo.garments):
        bitmaps = [_bitmap(garment, *size) for garment in photo.garments]
        target["masks"] = tv_tensors.Mask(torch.from_numpy(np.stack(bitmaps)))
    return target


def _bitmap(garment: Garment, height: int, width: int) -> np.ndarray:
    """u8[height,width]."""
    if isinstance(garment.segmentation, dict):
        return coco_mask.decode(garment.segmentation)
    flat = [polygon.ravel().tolist() for polygon in garment.segmentation]
    parts = coco_mask.decode(coco_mask.frPyObjects(flat, height, width))
    return parts.any(axis=2).astype(np.uint8)


def resizer(augmentation: DetectorAugmentation) -> GeneralizedRCNNTransform:
    """The model's resizing transform, which draws one of the training sizes for each photo."""
    sizes, longest = list(augmentation.short_sides), augmentation.max_side
    return GeneralizedRCNNTransform(sizes, longest, PIXEL_MEAN, PIXEL_STD).train()


def reference_model(ours: Detector, backbone: str, short_side: int, max_side: int) -> MaskRCNN:
    """torchvision's Mask R-CNN with the weights, the RoI counts and thresholds of ``ours``."""
    heads = ours.roi_heads
    model = MaskRCNN(
        resnet_fpn_backbone(backbone_name=backbone, weights=None, trainable_layers=3),
        num_classes=heads.box_predictor.cls_score.out_features,
        min_size=short_side,
        max_size=max_side,
        box_batch_size_per_image=heads.rois_per_image,
        box_score_thresh=heads.score_threshold,
        box_nms_thresh=heads.nms_threshold,
        box_detections_per_img=heads.detections_per_image,
    )
    model.load_state_dict(ours.state_dict())
    return model


def detect(model: MaskRCNN, photo: Photo, device: torch.device) -> list[dict]:
    """The run-length encoded masks of the model's detections in a photo."""
    image = v2.functional.pil_to_tensor(Image.open(photo.path).convert("RGB"))
    with torch.inference_mode():
        found = model([image.to(device).float() / 255])[0]
    bitmaps = (found["masks"] > 0.5).cpu().numpy()
    return [
        coco_mask.encode(np.asfortranarray(bitmap[0][..., np.newaxis], np.uint8))[0]
        for bitmap in bitmaps
    ]
