"""Claims reach their verdicts without a plotting library, and the report can draw all that they describe."""

import inspect
import subprocess
import sys
import typing
from dataclasses import fields

import pytest

from decoupled_wd.study.claims.drawings import Drawing
from decoupled_wd.study.figures.draw import FUNCTIONS

# mnist1d imports matplotlib for pictures of its own, and knows nothing of verdicts
IMPORT_ALL = """
import importlib, pkgutil, sys, types
sys.modules["mnist1d"] = types.ModuleType("mnist1d")
data = sys.modules["mnist1d.data"] = types.ModuleType("mnist1d.data")
data.get_dataset_args = data.make_dataset = None
from decoupled_wd.study import claims
names = [module.name for module in pkgutil.iter_modules(claims.__path__, f"{claims.__name__}.")]
for name in names:
    importlib.import_module(name)
print(len(names), [name for name in sys.modules if name.partition(".")[0] == "matplotlib"])
"""


def test_claims_import_no_matplotlib():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True
    )
    number, _, loaded = done.stdout.strip().partition(" ")
    assert int(number) >= 13
    assert loaded == "[]"


@pytest.mark.parametrize("kind", typing.get_args(Drawing))
def test_every_kind_of_drawing_has_a_function_that_takes_its_fields(kind):
    inspect.signature(FUNCTIONS[kind]).bind(**{each.name: None for each in fields(kind)})
