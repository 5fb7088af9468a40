"""Photo file -> run-length masks: decode, resize, forward, paste, encode."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN

from engine.config import require
from engine.data.records import Photo, PhotoRecords
from engine.detection.detector import Detector
from engine.detection.predict import PredictSettings, detect_photos
from engine.pixels.photos import PhotoError
from tools.benchmarks import reference
from tools.benchmarks.models import add_model_arguments, prepare, twins
from tools.benchmarks.photos import add_photo_arguments, in_sizes, some_photos
from tools.benchmarks.timing import Way, compare, timed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photo_arguments(parser, photos=4)
    add_model_arguments(parser)
    add = parser.add_argument
    add("--detections", type=int, default=20, help="detections per photo (default: 20)")
    add(
        "--large",
        type=int,
        default=1212,
        help="short side of enlarged photos, 0 for none (default: 1212)",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one photo after another, without threads that would hide decoding behind the network.

    Besides the total, "without the network" compares everything except the forward pass.
    """
    prepare(arguments)
    require(1 <= arguments.detections <= 1000, "--detections: give a number from 1 to 1000")
    rows = []
    with some_photos(arguments) as (records, folder):
        for size, photos in in_sizes(records, arguments.large, folder):
            rows += _compare(size, photos, arguments)
    found = [row["garments"] for row in rows if "garments" in row]
    return {"rows": rows, "garments_per_photo": found}


def _compare(title: str, records: PhotoRecords, arguments: argparse.Namespace) -> list[dict]:
    ours, theirs = both_ways(records, arguments)
    photos, found = list(records), {"ours": [], "reference": []}
    spans = {"ours": [], "reference": []}
    clocks = [
        ForwardClock(ours, ours, arguments.device),
        ForwardClock(theirs.backbone, theirs.roi_heads, arguments.device),
    ]
    ways = []
    for name, detect, clock in zip(found, detectors(ours, theirs, arguments), clocks, strict=True):
        work = _recorded(detect, photos, found[name])
        ways.append(_beside(timed(work, arguments.device), clock, spans[name]))
        ways[-1](0)
        spans[name].clear(), found[name].clear()
    whole = compare(*ways, items=len(photos), rounds=arguments.rounds)
    around = compare(*map(_replayed, spans.values()), items=len(photos), rounds=arguments.rounds)
    garments = {name: sum(counts) / len(counts) for name, counts in found.items()}
    return [
        {"case": title} | whole | {"garments": garments},
        {"case": f"{title}, without the network"} | around,
    ]


def both_ways(records: PhotoRecords, arguments: argparse.Namespace) -> tuple[Detector, MaskRCNN]:
    """Both models, with a score threshold low enough to find --detections on every photo."""
    limits = {"score_threshold": 0.0, "detections_per_image": arguments.detections}
    ours, theirs = twins(arguments, len(records.categories), **limits)
    ours, theirs = ours.eval().to(memory_format=torch.channels_last), theirs.eval()
    detect = detectors(ours, theirs, arguments)[0]
    lowest = [detect(photo).scores for photo in records]
    threshold = 0.95 * min(float(scores[-1]) for scores in lowest if len(scores))
    ours.roi_heads.score_threshold = theirs.roi_heads.score_thresh = threshold
    return ours, theirs


def detectors(
    ours: Detector, theirs: MaskRCNN, arguments: argparse.Namespace
) -> tuple[Callable[[Photo], Any], Callable[[Photo], list[dict]]]:
    """Functions from a photo to its detections, one for each way."""
    device = torch.device(arguments.device)
    settings = PredictSettings(arguments.short_side, arguments.max_side, workers=0)

    def mine(photo: Photo) -> Any:
        ((_, found, _),) = detect_photos(ours, [(0, photo.path)], settings, device)
        if isinstance(found, PhotoError):
            raise found
        return found

    return mine, lambda photo: reference.detect(theirs, photo, device)


class ForwardClock:
    """Measures the time from the start of one module's forward pass to the end of another's."""

    def __init__(self, first: nn.Module, last: nn.Module, device: str) -> None:
        self.device = device
        self.seconds = self._started = 0.0
        first.register_forward_pre_hook(self._start)
        last.register_forward_hook(self._stop)

    def _now(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _start(self, *_: Any) -> None:
        self._started = self._now()

    def _stop(self, *_: Any) -> None:
        self.seconds = self._now() - self._started


def _recorded(
    detect: Callable[[Photo], Any], photos: list[Photo], counts: list[int]
) -> Callable[[int], None]:
    """Detect on photo ``i``, recording how many garments were found."""
    return lambda i: counts.append(len(detect(photos[i])))


def _beside(way: Way, clock: ForwardClock, spans: list[float]) -> Way:
    """The same way, also recording the time spent outside the network."""

    def noting(item: int) -> float:
        seconds = way(item)
        spans.append(seconds - clock.seconds)
        return seconds

    return noting


def _replayed(spans: list[float]) -> Way:
    """A way that returns recorded times, in their order."""
    rest = iter(spans)
    return lambda _: next(rest)
