"""The table of mutations fits the code of today; running them takes minutes: ``python tests/mutations.py``."""

from pathlib import Path

import pytest
from mutations import MUTATIONS, ROOT, occurrences


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.module}-{m.old}")
def test_the_old_text_stands_in_the_code_once_and_its_tests_exist(mutation):
    assert occurrences(mutation) == 1
    assert mutation.new != mutation.old
    file, test = mutation.tests.split("[")[0].split("::")
    assert f"def {test}(" in (Path(ROOT) / "tests" / file).read_text()
