"""Every page runs as it stands, its Python blocks in order in one namespace, and says what there is."""

import re
from pathlib import Path

import pytest
from cases import public_transformations

import decoupled_wd as dwd

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.glob("*.md")) if "```python" in page.read_text()]


def blocks(page, language):
    """The fenced blocks of a page in this language."""
    fenced = rf"^```{re.escape(language)}\n(.*?)^```$"
    return re.findall(fenced, page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page, "python"):
        exec(block, names)


def test_the_page_of_rules_names_every_rule():
    page = (DOCS / "rules.md").read_text()
    rules = public_transformations(dwd.rules)
    assert {rule for rule in rules if f"| `rules.{rule}(" not in page} == set()


def letters(text):
    return re.sub("[^a-z]", "", text.lower())


@pytest.mark.parametrize("name", dwd.FRAMEWORKS)
def test_the_page_of_couplings_names_every_framework(name):
    """In the row of its own pair (p, s)."""
    coupling = dwd.FRAMEWORKS[name]
    pair = f"| ({coupling.p}, {coupling.s}) |"
    rows = [line for line in (DOCS / "coupling.md").read_text().splitlines() if pair in line]
    assert any(letters(name) in letters(row) for row in rows)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_line_of_code_is_cut_on_the_page(page):
    lines = [line for block in blocks(page, "python") for line in block.splitlines()]
    assert [line for line in lines if len(line) > 78] == []
