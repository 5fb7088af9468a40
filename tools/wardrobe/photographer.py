"""Painting a planned photo: place, person, clothes in their layers, things in front, lens."""

from dataclasses import replace

import cv2
import numpy as np

from tools.wardrobe.accessories import (
    paint_bag,
    paint_foreground,
    paint_hanger,
    paint_phone,
    paint_rail,
)
from tools.wardrobe.annotate import annotate_item
from tools.wardrobe.backgrounds import Place, paint_place
from tools.wardrobe.canvas import Canvas
from tools.wardrobe.cloth import Cloth
from tools.wardrobe.figures import Figure
from tools.wardrobe.garments import BOTTOMS
from tools.wardrobe.heads import paint_back_hair, paint_front_hair, paint_head
from tools.wardrobe.lens import expose
from tools.wardrobe.patterns import Cut
from tools.wardrobe.people import paint_arm, paint_legs, paint_trunk
from tools.wardrobe.scenes import Plan
from tools.wardrobe.shapes import ellipse, moved
from tools.wardrobe.tailor import cut_garment
from tools.wardrobe.waists import waist_height

Dressed = list[tuple[Cloth, Cut]]


def take_photo(plan: Plan, size: int) -> tuple[np.ndarray, dict]:
    """Render a plan.

    Args:
        plan: what to show. size: px of the photo's long side.

    Returns:
        The photo u8[H, W, 3] sRGB and its DeepFashion2 annotation.
    """
    width = size if plan.aspect >= 1 else round(size * plan.aspect)
    height = size if plan.aspect <= 1 else round(size / plan.aspect)
    rng = np.random.default_rng(plan.seed)
    camera = plan.figure.camera
    camera = replace(camera, scale=camera.scale * height, x=camera.x * height, y=camera.y * height)
    figure = replace(plan.figure, camera=camera)
    canvas = _stage(plan, figure, width, height, rng)
    dressed = _make_up(plan, figure, rng)
    if figure.flatness:
        _paint_lying(canvas, plan, figure, dressed, rng)
    else:
        _paint_worn(canvas, plan, figure, dressed, rng)
    if plan.extras.foreground:
        paint_foreground(canvas, rng)
    annotation: dict = {"source": plan.source, "pair_id": plan.pair_id}
    for owner, ((garment, _), (_, cut)) in enumerate(
        zip(plan.garments, dressed, strict=True), start=1
    ):
        item = annotate_item(canvas, owner, garment, cut, plan.viewpoint)
        if item is not None:
            annotation[f"item{len(annotation) - 1}"] = item
    return expose(canvas.rgb, plan.lens, rng), annotation


def _stage(plan: Plan, figure: Figure, width: int, height: int, rng: np.random.Generator) -> Canvas:
    """The place, with a shadow where the person stands."""
    camera = figure.camera
    floor = figure.project((0.0, figure.stature, 0.0))[1]
    horizon = int(floor - rng.uniform(8, 45) * camera.scale)
    place = Place(width, height, camera.scale, horizon)
    canvas = Canvas(np.ascontiguousarray(paint_place(rng, plan.place, place)), plan.light)
    if not figure.flatness and floor < height * 1.1:
        spot = figure.project((0.0, figure.stature * 0.985, 0.0))
        spot = moved(spot, -plan.light.x * 14 * camera.scale, 0)
        outline = ellipse(spot, 30 * camera.scale, 6 * camera.scale)
        canvas.shadow([outline], 5 * camera.scale, 1.1)
    return canvas


def _make_up(plan: Plan, figure: Figure, rng: np.random.Generator) -> Dressed:
    """Cut every garment for the figure and take its cloth."""
    dressed = []
    for owner, (garment, wear) in enumerate(plan.garments, start=1):
        cut = cut_garment(figure, garment, wear, rng)
        loose = float(np.clip(garment.measures.get("width", 3.0) / 6, 0.15, 1.0))
        flat, density = bool(figure.flatness), figure.camera.scale
        cloth = Cloth(garment.texture, density, owner, rng, flat=flat, looseness=loose)
        dressed.append((cloth, cut))
    return dressed


def _paint_lying(
    canvas: Canvas, plan: Plan, figure: Figure, dressed: Dressed, rng: np.random.Generator
) -> None:
    """Clothes on a surface or a hanger, without a body."""
    main = plan.garments[-1][0]
    bottom = main.category in BOTTOMS
    waist = waist_height(figure, main) if bottom else 0.0
    if plan.kind == "hanger" and plan.extras.rail:
        paint_rail(canvas, figure, (waist - 2.5 if bottom else figure.y(0.163) - 2.5) - 12.5)
    for cloth, cut in dressed:
        for panel in cut.lining:
            canvas.shadow([panel.outline], 2.0 * figure.camera.scale, 0.6)
            cloth.paint(canvas, panel)
        if plan.kind == "hanger":
            paint_hanger(canvas, figure, rng, clips=bottom, waist=waist)
        for panel in (*cut.trunk, *cut.sleeves[-1], *cut.sleeves[1], *cut.collar):
            cloth.paint(canvas, panel)


def _paint_worn(
    canvas: Canvas, plan: Plan, figure: Figure, dressed: Dressed, rng: np.random.Generator
) -> None:
    """A person from back to front: linings, body, far arm, clothes, head, near arms, things."""
    looks = plan.looks
    paint_back_hair(canvas, figure, looks)
    for cloth, cut in reversed(dressed):
        for panel in cut.lining:
            cloth.paint(canvas, panel)
    paint_legs(canvas, figure, looks)
    for side in (-1, 1):
        paint_arm(canvas, figure, looks, side)
    paint_trunk(canvas, figure, looks)
    far = _far_arm(figure)
    if far:
        _paint_sleeves(canvas, dressed, far)
    for cloth, cut in dressed:
        for panel in (*cut.trunk, *cut.collar):
            cloth.paint(canvas, panel)
    paint_head(canvas, figure, looks)
    for side in (-1, 1):
        if side != far:
            _paint_near_arm(canvas, plan, figure, dressed, side)
    paint_front_hair(canvas, figure, looks)
    if plan.extras.bag:
        paint_bag(canvas, figure, plan.extras.bag, rng)
    for side in (-1, 1):
        if figure.arms[side] == "phone" and plan.extras.phone and figure.facing > 0:
            paint_phone(canvas, figure, side)


def _paint_near_arm(
    canvas: Canvas, plan: Plan, figure: Figure, dressed: Dressed, side: int
) -> None:
    """Sleeves and whatever of the arm lies in front of the trunk."""
    lengths = [garment.measures.get("sleeve_length", 0.0) for garment, _ in plan.garments]
    # A bare forearm that is raised passes in front of its own sleeve.
    over = figure.arms[side] in ("phone", "raised") and max(lengths) < 0.52
    if figure.arm_in_front(side) and not over:
        paint_arm(canvas, figure, plan.looks, side, only_fore=True)
    _paint_sleeves(canvas, dressed, side)
    if figure.arm_in_front(side) and over:
        paint_arm(canvas, figure, plan.looks, side, only_fore=True)


def _far_arm(figure: Figure) -> int:
    """The side whose arm the trunk hides from the camera; 0 when there is none."""
    turn = float(np.sin(figure.yaw))
    if abs(turn) > 0.35:
        side = 1 if turn > 0 else -1
        return 0 if figure.arm_in_front(side) else side
    behind = [side for side in (-1, 1) if figure.arms[side] == "behind" and figure.facing > 0]
    return behind[0] if behind else 0


def _paint_sleeves(canvas: Canvas, dressed: Dressed, side: int) -> None:
    for cloth, cut in dressed:
        for panel in cut.sleeves[side]:
            cloth.paint(canvas, panel)


def encode_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """The photo u8[H, W, 3] as a JPEG file."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
