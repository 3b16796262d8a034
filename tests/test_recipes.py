"""Follow the recipes of docs/recipes.md: each one goes into a copy of the tree, which must pass its battery."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from test_docs import ROOT, blocks

PAGE = ROOT / "docs/recipes.md"
COPIED = ("decoupled_wd", "tests", "docs", "pyproject.toml", "CHANGELOG.md")
RECIPES = {  # the most files, and what the battery says of the new thing
    "rule": (
        4,
        "log_cosh or escapes or names_every or namespace",
        [
            "decoupled_wd/rules/_penalties.py",
            "tests/test_laws.py",
            "tests/test_rules.py",
            "tests/test_public.py",
            "tests/test_docs.py",
        ],
    ),
    "framework": (
        2,
        "example or names_every",
        ["tests/test_coupling.py", "tests/diagnostics/test_equivalents.py", "tests/test_docs.py"],
    ),
    "claim": (
        4,
        "xiv or annealing or floor or down or every_claim_is_measured",
        [
            "decoupled_wd/study/claims/annealing.py",
            "tests/study/claims/test_every_claim.py",
            "tests/study/test_cli.py",
            "tests/test_architecture.py",
        ],
    ),
}


def edits(recipe):
    """File, old text and new text of each piece of a recipe; the last line of an old text may be a beginning."""
    (block,) = blocks(PAGE, f"diff {recipe}")
    for piece in re.split(r"^\+\+\+ ", block, flags=re.MULTILINE)[1:]:
        path, *lines = piece.splitlines()
        old, new = (
            "\n".join(line[1:] for line in lines if not line.startswith(other)) for other in "+-"
        )
        yield path, old, new


def follow(recipe, root):
    """Apply a recipe to the tree; returns the files that it changed or made."""
    changed = set()
    for path, old, new in edits(recipe):
        file = root / path
        before = file.read_text() if file.exists() else ""
        assert before.count(old) == 1 if before else not old, f"{path} has not once: {old}"
        file.write_text(before.replace(old, new) if before else new + "\n")
        changed.add(path)
    return changed


@pytest.fixture
def copy(tmp_path):
    for name in COPIED:
        source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__", "benchmarks", "*.png")
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def battery(root, words, files):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-k", words, *files],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_following_the_recipe_passes_the_battery(recipe, copy):
    most, words, files = RECIPES[recipe]
    assert len(follow(recipe, copy)) <= most
    done = battery(copy, words, files)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
