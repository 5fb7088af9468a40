"""A demo of the whole pipeline on rendered photos: detect, describe, store, search, evaluate.

    python tools/demo.py                    # minutes on two cores; then open demo/index.html
    python tools/demo.py --output other/ --photos 12

The photos are rendered by tools/make_wardrobe.py, and one is real: Grace Hopper's portrait (public
domain), which comes with matplotlib. Every step is one of Weft's own commands, printed and shown on
the page as you would type it. A step is skipped if it has already run with the same commands and
weights.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
from rich.console import Console

from engine.command_line import Parser, positive
from engine.errors import InputError, exits_cleanly
from engine.files import digest, make_folder, replacing
from engine.model_flags import DETECTOR_WEIGHTS, MULTITASK_WEIGHTS
from tools.showcase.page import write_page

ROOT = Path(__file__).resolve().parents[1]
PORTRAIT = "grace_hopper.jpg"
WEIGHTINGS = ("color=1", "texture=1", "shape=1")
MIN_SCORE = 0.9  # of the garment to search for
PHOTOS, SIDE = 40, 448  # rendered photos, pixels of their long side


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: identifies the step on disk and on the page.
        does: its description, one line.
        command: the script and its arguments, paths relative to the repository.
        makes: a file that exists once it is done, relative to the demo's folder.
    """

    name: str
    does: str
    command: tuple[str, ...]
    makes: str

    def __str__(self) -> str:
        return shlex.join(("python", *self.command))


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    output = arguments.output.absolute()
    fingerprint = [digest_of(path) for path in (DETECTOR_WEIGHTS, MULTITASK_WEIGHTS)]
    make_folder(output / "portrait")
    sample = Path(matplotlib.get_data_path()) / "sample_data" / PORTRAIT
    shutil.copyfile(sample, output / "portrait" / PORTRAIT)
    console = Console(markup=False, highlight=False)
    making = making_steps(name_of(output), arguments.photos)
    run_steps(making, output, fingerprint, console, first=1)
    searching = searching_steps(name_of(output), garment_to_show(output))
    run_steps(searching, output, fingerprint, console, first=1 + len(making))
    page = write_page(output, {step.name: str(step) for step in (*making, *searching)})
    console.print(f"open {page}")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Flags as attributes."""
    parser = Parser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="(default: demo/)")
    parser.add_argument(
        "--photos", type=positive, default=PHOTOS, metavar="N",
        help=f"photos to render; most of the time goes into them (default: {PHOTOS})",
    )  # fmt: skip
    return parser.parse_args(argv)


def digest_of(path: Path) -> str:
    """The digest of an included weights file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return digest(path)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; restore it with git checkout -- weights"
        ) from None


def name_of(output: Path) -> str:
    """The folder as commands name it: relative if it is below the repository."""
    return os.path.relpath(output, ROOT) if output.is_relative_to(ROOT) else str(output)


def making_steps(out: str, count: int) -> list[Step]:
    """Steps that render ``count`` photos, build a database, run inference and evaluate."""
    wardrobe, database = f"{out}/wardrobe", f"{out}/database"
    photos = (f"{wardrobe}/validation/image", f"{out}/portrait")
    return [
        Step("render", "rendering photos", (
            "tools/make_wardrobe.py", "--output", wardrobe, "--count", "4",
            "--val-count", str(count), "--size", str(SIDE),
        ), "wardrobe/wardrobe.json"),
        Step("build", "detecting garments and storing them in a database", (
            "tools/build_database.py", *photos, "--database", database,
        ), "database/database.json"),
        Step("infer", "detecting and describing garments, and finding similar ones", (
            "infer.py", *photos, "--output-dir", f"{out}/out", "--database", database,
        ), "out/garments.json"),
        Step("detector", "evaluating the detector", (
            "tools/evaluate.py", "detector", "--dataset", "deepfashion2", "--data-path", wardrobe,
            "--class-agnostic", "--weights", "weights/detector.pt",
            "--output-dir", f"{out}/evaluation/detector",
        ), "evaluation/detector/metrics.json"),
        Step("multitask", "evaluating retrieval by the multitask model's vectors", (
            "tools/evaluate.py", "multitask", "--dataset", f"deepfashion2:{wardrobe}",
            "--weights", "weights/multitask.pt", "--output-dir", f"{out}/evaluation/multitask",
        ), "evaluation/multitask/metrics.json"),
    ]  # fmt: skip


def searching_steps(out: str, key: str) -> list[Step]:
    """Steps that search for one garment with each of WEIGHTINGS."""
    return [
        Step(f"search {weights}", f"searching by {weights.partition('=')[0]}", (
            "tools/search.py", key, "--database", f"{out}/database", "--weights", weights,
            "--exclude-same-photo", "--top-k", "6",
            "--contact-sheet", f"{out}/search/{weights.partition('=')[0]}.png",
        ), f"search/{weights.partition('=')[0]}.png")
        for weights in WEIGHTINGS
    ]  # fmt: skip


def garment_to_show(output: Path) -> str:
    """Key of the largest garment on the rendered photos with at least MIN_SCORE, if any."""
    report = json.loads((output / "out" / "garments.json").read_text(encoding="utf-8"))
    found = [
        (
            garment["score"] >= MIN_SCORE,
            area_of(garment["box"]),
            f"{photo['photo']}#{garment['number']}",
        )
        for photo in report["photos"]
        for garment in photo["garments"]
        if not photo["photo"].endswith(PORTRAIT)
    ]
    if not found:
        raise InputError(f"{output / 'out'}: no garment was found on the rendered photos")
    return max(found)[-1]


def area_of(box: list[float]) -> float:
    """The area of an xyxy box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def run_steps(
    steps: list[Step], output: Path, fingerprint: list[str], console: Console, *, first: int
) -> None:
    """Run steps, skipping those done before with the same weights, command and preceding commands.

    Args:
        steps: in order.
        output: the demo's folder.
        fingerprint: digests of the weights and the commands so far; each step's is appended.
        console: to print to.
        first: the number of the first step, for headings.

    Raises:
        InputError: a step failed; its own error message is already on the screen.
    """
    (output / "search").mkdir(exist_ok=True)
    for number, step in enumerate(steps, first):
        console.rule(f"{number}. {step.does}", align="left")
        fingerprint.append(str(step))
        stamp = output / "done" / step.name.replace(" ", "-")
        done = json.dumps(fingerprint)
        previous = stamp.read_text(encoding="utf-8") if stamp.exists() else None
        if previous == done and (output / step.makes).exists():
            console.print("done before")
            continue
        console.print(f"$ {step}", style="dim")
        ended = subprocess.run([sys.executable, *step.command], cwd=ROOT)
        if ended.returncode:
            raise InputError(f"{step}: ended with exit code {ended.returncode}, see above")
        stamp.parent.mkdir(exist_ok=True)
        with replacing(stamp) as file:
            file.write(done.encode())


if __name__ == "__main__":
    main()
