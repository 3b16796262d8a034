"""The report as a reader has it: in a browser, from disk, on a phone, in the dark, without eyes."""

import base64
import html
import io
import json
import os
import platform
import re
import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from browser import Reader, assert_readable, browse, measured, needs_browser
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.stats import t as student

from decoupled_wd.study.claims.drawings import Bars, Heatmaps, Lines
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.verdicts import (
    FAILS,
    HOLDS,
    MISSING,
    SAME,
    UNDECIDED,
    Finding,
    Verdict,
)
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.profiles import CLAIMS
from decoupled_wd.study.report import machine
from decoupled_wd.study.report import page as report
from decoupled_wd.study.statistics import Estimate

DIMS = ("learning_rate", "weight_decay", "seed")
NAN = float("nan")
HOSTILE = "<script>alert('λ')</script> & \"quotes\""
VERDICTS = [
    Verdict("With L2 the best λ falls", "mnist1d", "slope", Estimate(-0.7, -0.9, -0.5), "<", 0.0),
    Verdict("It falls as 1/α", "mnist1d", "slope", Estimate(-0.7, -0.9, -0.5), ">", 0.0),
    Verdict(HOSTILE, "digits", "ratio of slopes", Estimate(0.4, 0.2, 1.4, 0.3, 4), "<", 0.5, 0.2),
    Verdict(
        "At fixed α there is no gain", "digits", "points", Estimate(NAN, NAN, NAN), "≈", 0.0, 0.5
    ),
    Verdict(
        "Both take the same steps", "digits", "distance", Estimate(3e-6, 2e-6, 4e-6), "<", 1e-4
    ),
    Verdict("It gains", "digits", "points", Estimate(0.1, -0.2, 0.4, 0.1, 16), ">", 0.0, 0.5, 3),
]
EXPECTED = [HOLDS, FAILS, UNDECIDED, MISSING, HOLDS, SAME]
TABLE = [
    {"optimizer": "SGD", "ridge_slope": -0.7, "ridge_slope_low": NAN, "seeds": 8},
    {"optimizer": "AdamW", "ridge_slope": 0.2, "ridge_slope_low": 0.1, "seeds": 16},
]
OPTIONS = {
    "configuration": {"profile": "small & quick", "seeds": 3},
    "command": "decoupled-wd study --out '<results>'",
    "seconds": 171.4,
}


def runs(name, rows, columns):
    """Errors that all differ, so that a cell can be told from every other; one cell diverges."""
    error = 40 + np.random.default_rng(len(name)).uniform(0, 15, (rows, columns, 3))
    error[0, 0, 1] = np.nan
    rates, decays = 0.1 * 2.0 ** -np.arange(rows), [0, *2.0 ** -np.arange(columns - 1, 0, -1)]
    return xr.Dataset({"test_error": (DIMS, error)}, {DIMS[0]: rates, DIMS[1]: decays})


GRIDS = {"SGD": runs("SGD", 4, 6), "AdamW": runs("AdamW", 4, 6)}


class Unsized:
    """A design without fields; a report does not measure, and it has nothing to do so."""


UNSIZED = Unsized()


def drawings():
    error = xr.DataArray([9.0, 5.0, 4.0], {"epoch": [1, 2, 4]}, ("epoch",))
    panel = {"AdamW": error, HOSTILE: error + 1}
    return {
        "heatmaps mnist1d, mlp, cosine": Heatmaps(xr.DataTree.from_dict(GRIDS), {}, tolerance=15.0),
        f"anytime {HOSTILE}": Lines(
            {"mnist1d": panel}, x="epoch", xlabel="epochs", ylabel="test error (%)"
        ),
    }


def findings():
    sized = Interaction(grid=8, looks=(8, 16), schedules=("cosine", "step drop"))
    again = {
        "Anytime; script alert λ script quotes": Bars({"a": {"b": Estimate(1, 0, 2)}}, ylabel="y")
    }
    return [
        (Experiment("v", "digits", "mlp", UNSIZED, 1.0), Finding(VERDICTS[2:], again, (), 9.0)),
        (
            Experiment("ii", "mnist1d", "mlp", sized, 70.0),
            Finding(VERDICTS[:2], drawings(), TABLE, 131.0),
        ),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "new" / "folder"
    report.write(out, findings=findings(), table=TABLE, **OPTIONS)
    return out


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def strict(path):
    def refuse(constant):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_claims_json_holds_every_verdict_with_its_claim(folder):
    records = strict(folder / "claims.json")
    assert [record["claim"] for record in records] == ["v"] * 4 + ["ii"] * 2
    assert [record["verdict"] for record in records] == EXPECTED[2:] + EXPECTED[:2]
    assert records[0]["statement"] == HOSTILE
    numbers = {"value": 0.4, "low": 0.2, "high": 1.4, "standard_error": 0.3, "seeds": 4}
    numbers |= {"sense": "<", "bound": 0.5, "margin": 0.2, "looks": 1}
    assert records[0].items() >= numbers.items()
    assert records[1]["value"] is None


def test_table_json_holds_the_records_with_null_for_nan(folder):
    records = strict(folder / "table.json")
    assert [list(record) for record in records] == [list(record) for record in TABLE]
    assert records[0]["ridge_slope_low"] is None
    assert records[1] == TABLE[1]


def test_an_infinite_estimate_spoils_neither_page_nor_json(tmp_path):
    endless = Verdict("a", "b", "c", Estimate(np.inf, 1.0, np.inf), ">", 0.0)
    said = shown(tmp_path, endless).text
    assert "∞ [1.00, ∞]" in said
    assert "more seeds may decide, or other λ" not in said
    assert (
        "more seeds may decide, or other λ"
        in shown(tmp_path, endless._replace(estimate=Estimate(0.0, -1.0, np.inf))).text
    )
    assert strict(tmp_path / "claims.json")[0]["high"] is None


def test_every_figure_is_a_file_and_in_the_page(folder, page):
    files = sorted(path.name for path in folder.glob("*.png"))
    slug = "anytime-script-alert-script-quotes"
    assert files == [f"{slug}-2.png", f"{slug}.png", "heatmaps-mnist1d-mlp-cosine.png"]
    shown = {base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", page)}
    assert shown == {(folder / name).read_bytes() for name in files}


def test_each_verdict_has_its_words_its_sign_and_its_numbers(read):
    for line, verdict in zip(VERDICTS, EXPECTED, strict=True):
        # once at a glance, and then in its row
        sign = f"{report.SIGNS[verdict]} {verdict}"
        assert f"{line.statement} {line.where} {sign}" in read.text
        at = read.text.rindex(f"{line.statement} {line.where}")
        row = read.text[at : read.text.index(sign, at)]
        assert len(row) < 160
        assert f"{line.where} {line.statistic}" in row
    # value, interval, seeds, what was expected
    assert "−0.70 [−0.90, −0.50] 1 < 0" in read.text
    assert "0.40 [0.20, 1.40] 4 < 0.5" in read.text
    assert "– [–, –] 1 0 ± 0.5" in read.text
    assert "3e−06 [2e−06, 4e−06] 1 < 0.0001" in read.text
    assert "0.10 [−0.20, 0.40] 16 > 0" in read.text
    assert len(set(report.SIGNS.values())) == len(report.SIGNS) == 5


def test_what_is_undecided_says_how_many_seeds_would_decide(read, tmp_path):
    # half of its interval is 0.6, and it lies 0.1 from the bound and within 0.2; t falls from 3.18 to
    # 1.96: 4·(0.6/0.1·1.96/3.18)² + 1.96²/2 seeds
    assert "? undecided some 57 seeds would decide" in read.text
    assert read.text.count("would decide") == 1
    close = Verdict("a", "b", "c", Estimate(0.0, -1.0, 1.0, 0.4, 8), ">", 0.0)
    assert "? undecided too close for seeds to decide" in shown(tmp_path, close).text


def shown(folder, *verdicts):
    """A report of these alone, as it is read."""
    found = [(Experiment("i", "digits", "mlp", UNSIZED, 1.0), Finding([*verdicts], {}))]
    report.write(folder, findings=found, table=[], **OPTIONS)
    return Reader((folder / "report.html").read_text("utf-8"))


def test_the_number_of_wrong_verdicts_is_told(tmp_path, read):
    """Of one that is clear and five that are close, the largest q-value is the larger p."""
    assert "at most 0.0 are expected to be wrong" in read.text
    half = student.ppf(0.975, 8)
    clear, close = (
        Verdict("a", "b", "c", Estimate(value, value - half, value + half, 1.0, 9), ">", 0.0)
        for value in (30.0, 2.4)
    )
    p_value = 2 * student.sf(2.4, 8)
    words = f"at most {6 * p_value:.1f} are expected to be wrong"
    assert 0.2 < 6 * p_value < 0.3
    assert words in shown(tmp_path, clear, *[close] * 5).text


def test_the_summary_counts_the_verdicts(read):
    makes = "1 makes no difference that matters"
    counted = f"6 statements: 2 hold, 1 does not hold, {makes}, 1 undecided, 1 not measured"
    assert counted in read.text
    assert report.summary(VERDICTS[1:2]) == "1 statement: 1 does not hold"
    assert report.summary(VERDICTS[5:] * 2) == "2 statements: 2 make no difference that matters"


def test_claims_stand_in_the_study_s_order_and_only_those_measured(read):
    ids = [
        attributes["id"] for tag, attributes in read.tags if tag == "section" and "id" in attributes
    ]
    assert ids == ["claim-ii", "claim-v"]
    assert CLAIMS["ii"] in read.text
    assert CLAIMS["iii"] not in read.text


def test_text_from_outside_stays_text(page, read):
    assert "<script" not in page
    assert html.escape("decoupled-wd study --out '<results>'").replace("&#x27;", "&#39;") in page
    assert "decoupled-wd study --out '<results>'" in read.text
    assert "small & quick" in read.text


def test_how_it_was_made_is_told_and_no_host_name(read, page):
    assert "2 min 51 s" in read.text
    assert f"Python {platform.python_version()}" in read.text
    assert f"{os.cpu_count()} cores" in read.text
    assert re.search(r"jax \d+\.\d+", read.text)
    sizes = "grid 8, looks 8 + 16, schedules cosine + step drop, couplings"
    assert f"(ii) mnist1d mlp {sizes}" in read.text
    assert re.search(r"couplings \S.* 2 min 11 s", read.text)
    assert "(v) digits mlp 9 s" in read.text
    assert "SGD −0.7 – 8" in read.text
    assert platform.node() not in read.text


def test_nothing_is_loaded_from_anywhere(page, read):
    for tag, attributes in read.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            target = attributes.get(name) or ""
            allowed = (
                ("#", "data:") if tag != "a" else ("#", "https://arxiv.org/", "anytime", "heatmaps")
            )
            assert not target or target.startswith(allowed), (tag, target)
    assert not re.search(r"url\(|@import", page)
    policy = [
        a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_every_figure_says_what_it_shows(read):
    heat, curve, _ = [
        a["aria-label"] for tag, a in read.tags if tag == "svg" and a["viewbox"].startswith("0 0 ")
    ]
    assert heat.startswith("heatmaps mnist1d, mlp, cosine. SGD + L2 best ")
    assert "AdamW (decoupled) best" in heat
    assert "learning rate α (× 0.1) over weight decay λ" in heat
    assert "ridge: best λ > 0 for each α" in heat
    assert f"mnist1d test error (%) over epochs. Legend: AdamW (decoupled), {HOSTILE}." in curve


def rectangles(page):
    """Every hover rectangle of the page: x, y, width, height and what it says."""
    found = re.findall(
        r'<rect x="(.+?)" y="(.+?)" width="(.+?)" height="(.+?)"><title>(.+?)</title>', page
    )
    return [(*map(float, numbers), html.unescape(text)) for *numbers, text in found]


def cells():
    """Every cell in the page's order, rows of large α on top: its text and its mean error."""
    for data in GRIDS.values():
        for i, rate in enumerate(data["learning_rate"].values):  # these descend
            for j, decay in enumerate(data["weight_decay"].values):
                seeds = data["test_error"].values[i, j]
                spread = f"{seeds.mean():.1f} % (± {np.std(seeds, ddof=1):.1f} over 3 seeds)"
                text = "diverged" if np.isnan(seeds).any() else spread
                yield f"α = {rate:.3g}, λ = {decay:.3g}: {text}", seeds.mean()


def colour(mean):
    """What the study's colour scale, from the best error to its cap, makes of a mean error."""
    means = np.array([mean for _, mean in cells()])
    finite = means[np.isfinite(means)]
    scale = Normalize(finite.min(), np.ceil(np.quantile(finite, 0.6)))
    bad = mpl.colormaps["viridis_r"].with_extremes(bad="0.8")
    return np.array(bad(np.ma.masked_invalid(scale(mean)))[:3])


def test_each_rectangle_says_what_the_figure_shows_in_it(page):
    found = rectangles(page)
    assert [text for *_, text in found] == [text for text, _ in cells()]
    data = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", page)[1])
    image = mpl.image.imread(io.BytesIO(data))
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', page).groups()
    assert image.shape[1] / float(width) == image.shape[0] / float(height) == 2
    for across, down in [(0.15, 0.08), (0.85, 0.08), (0.15, 0.92), (0.85, 0.92)]:
        assert_coloured(image, [[2 * n for n in box[:4]] for box in found], across, down)


def assert_coloured(image, boxes, across, down):
    """At this place in each box is its cell's colour, or now and then a ring, the ridge or a rule."""
    places = [(round(y + down * h), round(x + across * w)) for x, y, w, h in boxes]
    seen = np.array([image[place][:3] for place in places])
    wanted = np.array([colour(mean) for _, mean in cells()])
    assert np.isclose(seen, wanted, atol=0.03).all(axis=1).mean() > 0.9


def test_the_cells_are_also_a_table(read):
    data = GRIDS["AdamW"]
    mean = data["test_error"].values.mean(axis=2)
    decays = " ".join(f"λ = {decay:.3g}" for decay in data["weight_decay"].values)
    assert read.text.count(decays) == 2
    row = read.text[read.text.rindex("α = 0.0125") :]
    assert re.findall(r"([\d.]+) %", row)[:6] == [f"{error:.1f}" for error in mean[3]]


def test_what_several_experiments_drew_under_one_name_is_one_figure(tmp_path, monkeypatch):
    """And what cannot be put into one has a file of its own."""
    names = list(GRIDS)
    bars = [Bars({name: {"with L2": Estimate(1, 0, 2)}}, ylabel="y") for name in "abc"]
    maps = [
        Heatmaps(xr.DataTree.from_dict({name: GRIDS[name]}), {name: None}, tolerance=15.0)
        for name in names[:2]
    ]
    drawn = []
    monkeypatch.setattr(
        report, "draw", lambda drawing: (drawn.append(drawing), Figure(figsize=(1, 1)))[1]
    )
    plan = [
        {"x": bars[0], "y": maps[0]},
        {"x": bars[1]},
        {"y": maps[1], "x": bars[2]},
        {"x": maps[0]},
    ]
    found = [
        (Experiment("vi", "digits", "mlp", UNSIZED, 1.0), Finding(VERDICTS[:1], mine))
        for mine in plan
    ]
    report.write(tmp_path, findings=found, table=[], **OPTIONS)
    joined_bars, joined_maps, alone = drawn
    assert joined_bars.groups == {
        name: each.groups[name] for name, each in zip("abc", bars, strict=True)
    }
    assert list(joined_maps.results.children) == list(joined_maps.ridges) == names[:2]
    assert alone == maps[0]
    assert {path.name for path in tmp_path.glob("*.png")} == {"x.png", "y.png", "x-2.png"}


def test_an_unknown_claim_is_met_at_the_door(tmp_path):
    experiment = Experiment("xx", "digits", "mlp", UNSIZED, 1.0)
    with pytest.raises(ValueError, match=r"findings has the claims \['xx'\]; known are \['i', "):
        report.write(tmp_path, findings=[(experiment, Finding([], {}))], table=[], **OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("found", [[], [Finding([], {})], [Finding([], drawings())]])
def test_an_empty_report_replaces_none(tmp_path, found):
    (tmp_path / "report.html").write_text("the old one")
    experiments = [(Experiment("i", "digits", "mlp", UNSIZED, 1.0), each) for each in found]
    with pytest.raises(ValueError, match="findings has no verdict"):
        report.write(tmp_path, findings=experiments, table=[], **OPTIONS)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]


ALL_FILES = len(drawings()) + 1 + len(report.PAGES)


@pytest.mark.parametrize("number", range(ALL_FILES))
def test_a_full_disk_keeps_every_file_of_the_old_report(tmp_path, folder, monkeypatch, number):
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    old = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(old) == ALL_FILES
    write, written = Path.write_bytes, []

    def fail(path, content):
        written.append(path)
        if len(written) > number:
            write(path, content[:10])
            raise OSError(28, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left on device; finished runs are kept") as full:
        report.write(out, findings=findings()[1:] * 9, table=[], **OPTIONS)
    assert Path(full.value.filename) == out / written[-1].name
    assert {path.name: path.read_bytes() for path in out.iterdir()} == old


def test_no_file_is_ever_seen_half_written(tmp_path, monkeypatch):
    """Each comes into its place by a rename, after all of them are whole; the page is there last."""
    order, replace = [], Path.replace

    def rename(path, target):
        order.append(target.name)
        assert len(list(path.parent.iterdir())) + len(order) == ALL_FILES + 1
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", rename)
    report.write(tmp_path, findings=findings(), table=TABLE, **OPTIONS)
    assert sorted(order) == sorted(path.name for path in tmp_path.iterdir())
    assert order[-len(report.PAGES) :] == list(report.PAGES)


def test_the_processor_is_read_whatever_the_locale(monkeypatch):
    text = b"model name\t: Zuse Z\xff\xe9 \xe2\x84\xa2\n"
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, encoding="ascii", errors="strict": text.decode(encoding, errors),
    )
    assert machine.processor().startswith("Zuse Z")


@pytest.fixture(scope="module")
def wide(page, tmp_path_factory):
    return measured(page, tmp_path_factory.mktemp("wide"), 1200)


@needs_browser
def test_it_opens_from_disk_without_a_complaint_and_shows_the_cells(folder, wide, tmp_path):
    shot = tmp_path / "shot.png"
    arguments = ["--window-size=1200,6000", f"--screenshot={shot}", "--enable-logging=stderr"]
    done = browse(tmp_path, *arguments, (folder / "report.html").as_uri())
    assert "CONSOLE" not in done.stderr
    assert_coloured(mpl.image.imread(shot), [box[:4] for box in wide["boxes"]], 0.85, 0.08)


@needs_browser
def test_all_figures_are_decoded_and_nothing_else_is_loaded(wide):
    assert len(wide["images"]) == 3
    assert all(width > 0 for width in wide["images"])
    assert [name for name in wide["loaded"] if not name.startswith("data:")] == []


@needs_browser
def test_the_pointer_over_a_cell_finds_its_rectangle(wide):
    assert [text for *_, text in wide["boxes"]] == [text for text, _ in cells()]


@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_needs_no_sideways_scrolling(page, tmp_path, width):
    found = measured(page, tmp_path, width)
    assert found["width"] == width
    assert found["needed"] <= width


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_is_readable_in_light_and_dark(page, tmp_path, dark):
    found = measured(page, tmp_path, 1200, f"--blink-settings=preferredColorScheme={int(not dark)}")
    assert_readable(found, dark)


def test_the_template_is_part_of_the_package():
    assert (Path(report.__file__).parent / "page.html.jinja").is_file()
