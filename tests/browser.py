"""A page as its reader has it: in Chromium, from disk, and its text alone."""

import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


class Reader(HTMLParser):
    """Tags with their attributes, and the text outside of the style sheet."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


FRAME = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<body style="margin: 0"><iframe srcdoc="{page}" style="width: {width}px; height: 6000px; border: 0"></iframe>
{images}
<script>
addEventListener("load", () => {{
  const framed = frames[0], page = framed.document;
  const ground = (e) => {{
    const own = framed.getComputedStyle(e).backgroundColor;
    return own !== "rgba(0, 0, 0, 0)" || !e.parentElement ? own : ground(e.parentElement);
  }};
  const words = [...page.querySelectorAll("body *")].filter((e) => !e.closest("svg")
    && [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  const found = {{
    images: [...document.images].map((image) => image.naturalWidth),
    boxes: [...page.querySelectorAll("figure rect")].map((rect) => {{
      const {{ x, y, width, height }} = rect.getBoundingClientRect();
      const hit = page.elementFromPoint(x + width / 2, y + height / 2);
      return [x, y, width, height, hit && hit.textContent];
    }}),
    width: framed.innerWidth,
    needed: page.documentElement.scrollWidth,
    colours: words.map((e) => [framed.getComputedStyle(e).color, ground(e), e.textContent]),
    loaded: framed.performance.getEntriesByType("resource").map((entry) => entry.name),
  }};
  document.body.textContent = JSON.stringify(found);
}});
</script>"""


def browse(tmp_path, *arguments):
    """Chromium, headless and with a profile of its own: the finished process."""
    home = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    command = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
        f"--user-data-dir={tmp_path / 'profile'}",
        *arguments,
    ]
    return subprocess.run(
        command, env=os.environ | home, capture_output=True, text=True, timeout=120, check=True
    )


def measured(page, tmp_path, width, *arguments):
    """What a script finds in the page, as it is, in a frame of that width."""
    images = "".join(
        f'<img src="{data}">' for data in re.findall(r'href="(data:image[^"]+)"', page)
    )
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=html.escape(page), width=width, images=images), "utf-8")
    done = browse(tmp_path, "--window-size=1200,6000", "--dump-dom", *arguments, frame.as_uri())
    found = re.search(r"<body[^>]*>(\{.*\})\s*</body>", done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(html.unescape(found[1]))


def assert_readable(found, dark):
    """All text stands out from its ground, as the reader has it in the light or in the dark."""
    grounds = [luminance(ground) for _, ground, _ in found["colours"]]
    assert (max(grounds) < 0.1) if dark else (min(grounds) > 0.8)
    for ink, ground, text in found["colours"]:
        high, low = sorted([luminance(ink), luminance(ground)], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ink, ground)  # WCAG 2.2, level AA


def luminance(css):
    rgb = np.array([int(n) for n in re.findall(r"\d+", css)[:3]]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]
