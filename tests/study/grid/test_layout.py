"""The layout of a store is known in one module, and to the others by its functions."""

import ast
import re
from pathlib import Path

import pytest

from decoupled_wd import study
from decoupled_wd.study.grid import layout

MODULES = sorted(Path(study.__file__).parent.rglob("*.py"))
# a store may be called runs.zarr, as an error message suggests
NAMES = r"(?<!runs)\.z\w+|\.partial|\.lock|zarr\.json|checksum"


def known(path):
    """Zarr's names in the text constants of a module, docstrings aside."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node)
    }
    constants = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in prose)
    return {
        each for n in constants if isinstance(n.value, str) for each in re.findall(NAMES, n.value)
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_the_layout_knows_a_name_of_the_layout(path):
    imports = re.search(r"^(from|import) zarr", path.read_text(), re.MULTILINE)
    if path == Path(layout.__file__):
        assert imports
        assert known(path) >= {".zattrs", ".zgroup", ".zmetadata", ".partial", "checksum"}
    else:
        assert known(path) == set()
        assert not imports
