"""The README's commands: what needs no data of one's own is run, of the rest flags are checked."""

import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
YOURS = re.compile(r"\b[A-Z][A-Z0-9]+\b")  # words in capitals stand for something of the reader's
WEIGHTS = [ROOT / "weights" / name for name in ("detector.pt", "multitask.pt")]


def commands() -> list[str]:
    """Every command line in a bash block."""
    lines = "".join(FENCE.findall(README)).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


PYTHON = [line for line in commands() if line.startswith(("python ", "torchrun ", "sbatch "))]
ENDLESS = [line for line in PYTHON if "tools/serve.py" in line]
RUNNABLE = [
    line
    for line in PYTHON
    if line.startswith("python ") and not YOURS.search(line) and line not in ENDLESS
]


def script_and_flags(line: str) -> tuple[list[str], set[str]]:
    """["train.py", "detector"], {"--dataset", ...} of a command."""
    words = shlex.split(line)
    script = next(i for i, word in enumerate(words) if word.endswith((".py", ".sh")))
    given = words[script + 1 :]
    start = [words[script].replace("tools/launch_slurm.sh", "train.py")]
    if start[0] in ("train.py", "tools/evaluate.py", "tools/benchmark.py"):
        start.append(given[0])
    return start, {word for word in given if re.fullmatch(r"--?[a-z][a-z0-9-]*", word)}


@cache
def help_of(*script: str) -> str:
    """What the script says of its flags."""
    shown = subprocess.run(
        [sys.executable, *script, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_there_are_commands_of_every_sort():
    assert {"make demo", "make test"} <= set(commands())
    assert len(RUNNABLE) >= 10
    assert len(PYTHON) > len(RUNNABLE)


@pytest.mark.parametrize("line", PYTHON)
def test_flags_exist(line):
    script, flags = script_and_flags(line)
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", help_of(*script)))
    assert flags <= known


def test_linked_files_are_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_it_names_scripts_that_exist():
    named = set(re.findall(r"`(?:python )?([\w/]+\.(?:py|sh))\b", README))
    assert {"train.py", "engine/training/loop.py"} <= named
    folders = (ROOT, ROOT / "tools", *(ROOT / "engine").rglob("*/"))
    assert [n for n in named if not any((folder / n).exists() for folder in folders)] == []


@pytest.mark.skipif(
    not all(path.exists() for path in WEIGHTS), reason="the shipped weights are not there"
)
def test_the_demo_and_every_command_without_own_data_run(tmp_path):
    """In a copy of the repository, one after the other, as a reader would."""
    copy = tmp_path / "a reader's copy"
    leave = shutil.ignore_patterns(".*", "demo", "runs", "out", "__pycache__", "tests", "weights")
    shutil.copytree(ROOT, copy, ignore=leave)
    (copy / "weights").symlink_to(ROOT / "weights")
    recipe = re.search(r"^demo:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    demo = recipe.replace("$(BIN)/python", "python") + " --photos 11"  # to be done sooner
    (program,) = PROGRAM.findall(README)
    lines = [shlex.split(line)[1:] for line in [demo, *RUNNABLE]]
    for line in [*lines, ["-c", program]]:
        ended = subprocess.run([sys.executable, *line], cwd=copy, capture_output=True, text=True)
        assert ended.returncode == 0, f"{line}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    page = (copy / "demo" / "index.html").read_text(encoding="utf-8")
    pictures = re.findall(r'src="([^"]+)"', page)
    assert len(pictures) >= 5
    assert [name for name in pictures if not (copy / "demo" / name).exists()] == []
