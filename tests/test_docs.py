"""Every page runs as it stands, its Python blocks in order in one namespace, and says what there is."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
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


def test_the_recipes_of_rules_are_what_they_say():
    names = {}
    for block in blocks(DOCS / "rules.md", "python"):
        exec(block, names)
    rng = np.random.default_rng(0)
    w, still, w_0, a, b = (rng.normal(size=s) for s in ((5, 3), (5, 3), (4, 3), (4, 2), (2, 3)))

    def pull(rule, params, updates):
        return rule.update(updates, rule.init(params), params)[0]

    # a full pull cuts off what is above the cap, and half of one half of it
    values = np.linalg.svd(w + still, compute_uv=False)
    out = pull(names["spectral_cap"](1.5), jnp.asarray(w), jnp.asarray(still))
    for share in (1.0, 0.5):
        left = np.linalg.svd(w + still - share * out, compute_uv=False)
        expected = values - share * np.maximum(values - 1.5, 0)
        np.testing.assert_allclose(left, np.sort(expected)[::-1], rtol=1e-5, atol=1e-5)
    assert values.min() < 1.5 < values.max()
    lora = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
    found = pull(names["merged"](jnp.asarray(w_0)), lora, lora)
    np.testing.assert_allclose(found["a"], (w_0 + a @ b) @ b.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["b"], a.T @ (w_0 + a @ b), rtol=1e-5, atol=1e-5)


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
