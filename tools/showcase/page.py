"""Writes demo/index.html: the results of the demo's steps, each with its command."""

import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from engine.files import replacing
from engine.wording import counted

TEMPLATE = Path(__file__).with_name("page.html")
SHOWN = 5  # photos with their garments
LABELS = ("category", "color", "pattern", "gender")  # shown if the model predicts them
ASPECTS = ("item", "color", "texture", "shape")


def write_page(output: Path, commands: Mapping[str, str]) -> Path:
    """Write the page from the files that the steps wrote.

    Args:
        output: the demo's folder.
        commands: step -> the command line as typed.

    Returns:
        The page's path.
    """
    report = _read(output / "out" / "garments.json")
    detector = _read(output / "evaluation" / "detector" / "metrics.json")
    multitask = _read(output / "evaluation" / "multitask" / "metrics.json")["wardrobe"]
    searches = {name: line for name, line in commands.items() if name.startswith("search ")}
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        photos="".join(_photo(photo) for photo in choose(report["photos"])),
        counts=_counts(report),
        searches="".join(_search(name, line) for name, line in searches.items()),
        detection=_detection(detector),
        neighbors=_neighbors(multitask),
        **{f"{name}_command": html.escape(line) for name, line in commands.items()
           if name not in searches},
    )  # fmt: skip
    path = output / "index.html"
    with replacing(path) as file:
        file.write(page.encode())
    return path


def choose(photos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """SHOWN photos: the real ones first, then those with the highest sums of scores."""
    real = [photo for photo in photos if photo["photo"].startswith("portrait/")]
    rest = [photo for photo in photos if photo not in real]
    rest.sort(key=lambda photo: -sum(garment["score"] for garment in photo["garments"]))
    return (real + rest)[:SHOWN]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _counts(report: dict[str, Any]) -> str:
    garments = sum(len(photo["garments"]) for photo in report["photos"])
    return f"{counted(garments, 'garment')} on {counted(len(report['photos']), 'photo')}"


def _photo(photo: dict[str, Any]) -> str:
    name = html.escape(photo["photo"])
    garments = "".join(_garment(garment) for garment in photo["garments"])
    return (
        f'<figure><img src="out/overlays/{quote(photo["photo"])}.jpg" alt="{name}, its garments '
        f'outlined"><figcaption><ol>{garments or "<li>no garment found</li>"}</ol></figcaption>'
        "</figure>"
    )


def _garment(garment: dict[str, Any]) -> str:
    labels = garment.get("labels", {})
    predicted = [
        f"{html.escape(labels[group][0]['value'])} {labels[group][0]['probability']:.0%}"
        for group in LABELS
        if group in labels
    ]
    colors = "".join(
        f'<i style="background:{color["hex"]}" title="{html.escape(color["name"])}"></i>'
        for color in garment.get("colors", ())
    )
    return (
        f"<li><b>{html.escape(garment['category'])}</b> {garment['score']:.0%} {colors}"
        f"<br><small>{' · '.join(predicted)}</small></li>"
    )


def _search(name: str, command: str) -> str:
    aspect = name.partition(" ")[2].partition("=")[0]
    return (
        f"<h3>by {aspect}</h3><pre>{html.escape(command)}</pre>"
        f'<img class="sheet" src="search/{aspect}.png" alt="the garment and the most similar '
        f'ones by {aspect}">'
    )


def _detection(metrics: dict[str, Any]) -> str:
    rows = [
        (kind, *(_percent(metrics[kind][name]) for name in ("AP", "AP50", "AP75", "AR100")))
        for kind in ("box", "mask")
        if kind in metrics
    ]
    return _table(("", "AP", "AP50", "AP75", "AR100"), rows)


def _neighbors(metrics: dict[str, Any]) -> str:
    names = ("R@1", "R@5", "R@10", "mAP")
    rows = [
        (aspect, *(_percent(metrics[aspect][name]) for name in names))
        for aspect in ASPECTS
        if "R@1" in metrics.get(aspect, {})
    ]
    return _table(("", *names), rows)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
