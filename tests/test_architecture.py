"""The walls of the house: which layer may import which, and files that stay readable."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
OURS = {path.stem for path in ROOT.glob("*.py")} | {
    "engine",
    "retrieval",
    "tools",
    "tests",
}

# Folder or file -> what of ours it may import.
ALLOWED = {
    "engine": {"engine"},
    "data_aug.py": {"engine"},
    "dataset_helpers.py": {"engine", "data_aug"},
    "retrieval": {"engine", "dataset_helpers", "retrieval"},
    "train.py": {"engine", "dataset_helpers", "data_aug"},
    "infer.py": {"engine", "retrieval", "dataset_helpers"},
    "tools": {"engine", "retrieval", "dataset_helpers", "data_aug", "tools"},
    "tests": OURS,
}


def our_imports(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
    return modules & OURS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    top = path.relative_to(ROOT).parts[0]
    assert our_imports(path) <= ALLOWED[top]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_say_what_they_hold_and_end_in_time(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert text.count("\n") <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_loads_code_from_data(path: Path) -> None:
    if path.parts[len(ROOT.parts)] == "tests":
        return
    text = path.read_text()
    assert not re.search(
        r"\b(?:pickle|marshal|shelve|joblib)\b\s*[.(]|(?<![.\w])(?:eval|exec)\(", text
    )
    for call in re.findall(r"torch\.load\([^)]*\)", text):
        assert "weights_only=True" in call
    for call in re.findall(r"np\.load\([^)]*\)", text):
        assert "allow_pickle=True" not in call
