"""Draw the pictures of the documentation anew: ``python tests/pictures.py``.

Those of docs/figures.md come from the code of that page, those of the pages on diagnostics and precision from examples.
docs/heatmaps.png is of the study's data: ``decoupled-wd study`` writes it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = {"timescale.py": DOCS / "rotation.png", "bfloat16.py": DOCS}


def draw_page(folder: Path) -> None:
    """Run the blocks of the page in this folder, where they write their pictures."""
    page = (DOCS / "figures.md").read_text()
    names: dict[str, object] = {}
    os.chdir(folder)
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        exec(block, names)


if __name__ == "__main__":
    draw_page(DOCS / "figures")
    for script, out in EXAMPLES.items():
        subprocess.run([sys.executable, ROOT / "examples" / script, out], check=True)
