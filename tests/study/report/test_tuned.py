"""The page of a tuned search: its numbers, its words, and how it opens."""

import html
import math
import re
import subprocess
import sys

import chex
import jax.numpy as jnp
import numpy as np
import optuna
import pytest
from browser import Reader, assert_readable, browse, measured, needs_browser
from searches import BEST, error, places, search, tuned

import decoupled_wd as dwd
from decoupled_wd.study import response
from decoupled_wd.study.claims.optimizers import CONTENDERS
from decoupled_wd.study.report import paste
from decoupled_wd.study.report import search as numbers
from decoupled_wd.study.report import tuned as page_of
from decoupled_wd.study.report.pieces import number
from decoupled_wd.study.report.ridge import NAMED, flat
from decoupled_wd.study.report.tuned import write
from decoupled_wd.study.statistics import Estimate

HOSTILE = "<script>alert('$x$')</script>\n{{ 7 * 7 }} \"& λ"
PARAMS = {"dense": {"kernel": jnp.ones((64, 32)), "bias": jnp.ones(32)}}
RUN = dwd.Run(2.0**-7, batch_size=128, dataset_size=4000, epochs=40, coupling=dwd.LR)
TARGET = dwd.Run(2.0**-7, batch_size=1024, dataset_size=1e6, epochs=2, coupling=dwd.LR)


@pytest.fixture(scope="module")
def found():
    return search(80)


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "new"
    options = {"params": PARAMS, "mask": dwd.masks.matrices(), "run": RUN, "target": TARGET}
    write(out, found, coupling=dwd.LR, **options)
    return out


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def text_of(tmp_path, found, **options):
    write(tmp_path, found, **options)
    return Reader((tmp_path / "report.html").read_text("utf-8")).text


def test_the_page_is_one_file(folder):
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_the_choice_stands_first_with_its_intervals(read, found):
    top = read.text[: read.text.index("The choice")]
    for name, value in found.best.items():
        assert f"{value:.3g}".replace("-", "−") in top, name
    value, low, high, *_ = found.estimate
    assert f"test error {value:.2f} [{low:.2f}, {high:.2f}]" in top
    assert top.count("the best lies between") == 2
    assert "80 trials; the best 4 trained again with 8 fresh seeds." in top


def test_the_ranges_hold_the_best_place(found):
    ranges = numbers.ranges_of(numbers.search_of(found), found.best)
    for name, best in BEST.items():
        assert ranges[name].low <= best <= ranges[name].high
        assert ranges[name].low <= found.best[name] <= ranges[name].high


def test_λ_stands_in_everyone_s_units(read, found):
    alpha, lam = found.best["learning_rate"], found.best["weight_decay"]
    at = read.text.index("In everyone's units")
    units = read.text[at : read.text.index("The landscape")]

    # λ·lr, λ·η, and the timescale 1/c in epochs of 4000/128 steps, by hand
    assert re.search(rf"optax, torch, .* λ·lr {re.escape(number(lam))} \[", units)
    assert re.search(rf"paper, .* λ·η {re.escape(number(lam * alpha))} \[", units)
    epochs = 128 / (lam * alpha * 4000)
    assert f"timescale in epochs b/(c·B) {number(epochs)} [" in units
    assert "in the unit of dwd.LR ." in units
    assert all(name in units for name in dwd.FRAMEWORKS)


def test_the_ridge_has_its_slope_and_the_coupling_that_makes_it_flat(read):
    said = read.text[read.text.index("The ridge The ridge is") :]
    slope, low, high = (
        float(number.replace("−", "-"))
        for number in re.search(r"d log λ / d log α, is (\S+) \[(\S+), (\S+)\]", said).groups()
    )
    assert low <= -1.0 <= high
    p = float(re.search(r"One with p = (\S+) \[", said)[1].replace("−", "-"))
    assert p == pytest.approx(1 + slope, abs=0.011)
    assert "That is dwd.PAPER." in said


@pytest.mark.parametrize("coupling", [dwd.PAPER, dwd.LR, dwd.SQUARED, dwd.Coupling(0.5, 1)])
@pytest.mark.parametrize("slope", [-0.5, 0.0, 1.0])
def test_under_the_flat_coupling_the_same_λ_is_best_at_every_α(coupling, slope):
    """Points of a ridge, converted to that unit, all have one λ."""
    p = flat(Estimate(slope, slope - 0.1, slope + 0.1), coupling).p
    assert p.high - p.low == pytest.approx(0.2)
    if p.value < 0:
        pytest.skip("no coupling has p < 0")
    to = dwd.Coupling(p.value, coupling.s)
    converted = [
        dwd.convert_weight_decay(3 * rate**slope, from_=coupling, to=to, learning_rate=rate)
        for rate in (1e-3, 1e-2, 1.0)
    ]
    assert converted == pytest.approx([3.0] * 3)


@pytest.mark.parametrize(
    ("slope", "coupling", "words"),
    [
        ((-1, -1.2, -0.8), dwd.LR, "That is dwd.PAPER."),
        ((0, -0.2, 0.2), dwd.PAPER, "That is dwd.PAPER."),
        ((0, -0.2, 0.2), dwd.CONSTANT, "That is dwd.CONSTANT."),
        ((1, 0.8, 1.2), dwd.LR, "That is dwd.SQUARED."),
        ((0.5, -0.2, 1.2), dwd.PAPER, "The interval holds dwd.PAPER and dwd.LR; more trials"),
        ((0.5, 0.4, 0.6), dwd.PAPER, "None of ours has it."),
        ((-1, -1.2, -0.8), dwd.PAPER, "No coupling has p < 0; of ours dwd.PAPER is the nearest."),
    ],
)
def test_the_flat_coupling_is_named_where_it_is_one_of_ours(slope, coupling, words):
    value, low, high = slope
    assert flat(Estimate(value, low, high), coupling).words.startswith(words)


def test_what_decays_is_described(read):
    said = read.text[read.text.index("What decays") :]
    assert "2,048 of 2,080 parameters decay, in 1 of 2 leaves" in said


def test_the_plan_goes_from_the_choice_to_the_target(read, found):
    reference = dwd.Run(
        found.best["learning_rate"], 128, 4000, 40, found.best["weight_decay"], coupling=dwd.LR
    )
    said = read.text[read.text.index("From here to the full-size run") :]
    table = dwd.plan(TARGET, reference)
    assert table.rows
    for row in table.rows:
        assert row.rule in said
        assert f"{row.weight_decay:.4g}" in said


def test_importance_is_optuna_s(read, found):
    shares = optuna.importance.get_param_importances(
        found.study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    for name, label in (("learning_rate", "learning rate α"), ("weight_decay", "weight decay λ")):
        assert f"{label} {100 * shares[name]:.0f} %" in read.text


def test_every_trial_is_in_the_table_and_under_the_pointer(page, read, found):
    pointed = re.findall(r"<title>(α = .+?)</title>", page)
    assert sorted(map(html.unescape, pointed)) == sorted(
        f"α = {t.params['learning_rate']:.3g}, λ = {t.params['weight_decay']:.3g}: {t.value:.4g}"
        for t in found.study.trials
    )
    table = read.text[read.text.index("All trials as a table") : read.text.index("The ridge")]
    assert table.count("1,000") == 80


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_eight_lines_run_as_they_stand(page, found):
    """Pasted, they take the step that AdamW takes by hand: α·1 in Adam's first, and λ·α of decay."""
    code = html.unescape(re.search(r"<pre[^>]*><code>(.+?)</code>", page, re.DOTALL)[1])
    assert len(code.splitlines()) == 8
    after = float(run(code + "\nprint(params['kernel'][0, 0])"))
    alpha, lam = found.best["learning_rate"], found.best["weight_decay"]
    assert after == pytest.approx(1 - alpha - lam * alpha, rel=1e-4)


@pytest.mark.parametrize(
    "best",
    [
        {"learning_rate": 0.01, "weight_decay": 0.001, HOSTILE: 3.0},
        {"weight_decay": 0.001},
        {HOSTILE: 3.0},
        {"learning_rate": 0.01, "weight_decay": 0.001, "b1": 0.95, "mask": 0.5},
    ],
)
@pytest.mark.parametrize("coupling", [*NAMED.values(), dwd.Coupling(0.5, 1)])
def test_the_lines_run_whatever_was_searched(best, coupling):
    lines = paste.code(best, coupling)
    assert len(lines.splitlines()) == 8
    exec(lines, {})
    for name, value in best.items():
        assert f"{value:g}" in lines, name


@pytest.mark.parametrize("name", [name.lower() for name in CONTENDERS])
def test_the_lines_are_of_the_optimiser_that_was_tuned(name):
    known = {}
    exec(paste.code(BEST, dwd.LR, f"dwd.{name}"), known)
    alias, settings = getattr(dwd, name), {"coupling": dwd.LR} if name.endswith("w") else {}
    optimizer = alias(BEST["learning_rate"], BEST["weight_decay"], **settings)
    params = gradients = {"kernel": jnp.ones((4, 4))}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    chex.assert_trees_all_close(known["updates"], updates, rtol=1e-3)


def test_the_lines_take_what_the_module_makes(tmp_path, monkeypatch):
    made = "import optax\ndef make_optimizer(rate, warmup): return optax.sgd(rate * warmup)\n"
    (tmp_path / "beside.py").write_text(made)
    monkeypatch.syspath_prepend(tmp_path)
    lines = paste.code({"rate": 0.01, "warmup": 20.0}, dwd.PAPER, "beside.make_optimizer")
    assert len(lines.splitlines()) == 8
    known = {}
    exec(lines, known)
    np.testing.assert_allclose(known["params"]["kernel"], 0.8, rtol=1e-6)


@pytest.mark.parametrize("module", ["my-model", "2nd", "class", "it's", "dwd"])
def test_the_lines_run_whatever_the_file_is_called(tmp_path, monkeypatch, module):
    (tmp_path / f"{module}.py").write_text("import optax\nmake_optimizer = optax.sgd\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = paste.code({"learning_rate": 0.25}, dwd.PAPER, f"{module}.make_optimizer")
    assert len(lines.splitlines()) == 8
    known = {}
    exec(lines, known)
    np.testing.assert_allclose(known["params"]["kernel"], 0.75, rtol=1e-6)


def test_the_λ_of_l2_has_no_unit_of_decay(tmp_path, found):
    """λ of L2 removes no fraction of a weight: what follows from one is left out."""
    options = {"params": PARAMS, "run": RUN, "target": TARGET}
    said = text_of(tmp_path, found, made_by="dwd.adam", **options)
    for section in ("In everyone's units", "What decays", "From here to the full-size run"):
        assert section not in said
    assert "d log λ / d log α, is" in said
    assert "This λ is that of L2, a part of the gradient: it has no coupling." in said
    assert "dwd.adam(learning_rate=" in said


def test_the_page_names_no_optimiser_that_was_not_tuned(tmp_path, found):
    said = text_of(tmp_path, found, made_by="mine.make_optimizer")
    assert "AdamW" not in said[said.index("To paste") :]


def test_text_from_outside_stays_text(tmp_path):
    names = ("learning_rate", HOSTILE)
    found = tuned(places(20, 0), error(*places(20, 0).T), names, metric=f"b{HOSTILE}")
    write(tmp_path, found)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert " ".join(HOSTILE.split()) in Reader(page).text
    assert "49 " not in re.sub(r"data:image/png;base64,[^\"]+", "", page).split("alert")[1][:40]


def test_more_may_be_better(tmp_path):
    at = places(60, 0)
    accuracy = 100 - error(*at.T) + np.random.default_rng(0).normal(0, 0.4, 60)
    found = tuned(at, accuracy, metric="accuracy", higher=True)
    ridge = numbers.ridge_of(numbers.search_of(found))
    assert ridge.slope.low <= -1 <= ridge.slope.high
    said = text_of(tmp_path, found)
    assert f"accuracy {found.estimate.value:.2f} [" in said
    assert found.estimate.value > 93


def test_three_hyperparameters_have_no_ridge(tmp_path):
    chance = np.random.default_rng(0)
    at = np.concatenate([places(40, 0), chance.uniform(0, 1, (40, 1))], axis=1)
    found = tuned(at, error(*at[:, :2].T), ("learning_rate", "weight_decay", "dropout"))
    said = text_of(tmp_path, found)
    assert "A ridge is the best λ for each α: it takes a search over these two alone." in said
    assert "slope of the ridge" not in said
    assert re.search(r"dropout \d+ %", said)


def test_one_hyperparameter_has_neither_ridge_nor_rank(tmp_path):
    at = places(30, 0)[:, 1:]
    said = text_of(tmp_path, tuned(at, error(2.0**-7, at[:, 0]), ("weight_decay",)))
    assert "Weight decay λ, tuned" in said
    assert "it takes a search over these two alone" in said
    assert "Too little was found to tell" in said
    assert "In everyone's units" not in said


def test_importance_of_very_many_trials_is_that_of_some(found, monkeypatch):
    everything = numbers.importances_of(found)
    for module in (numbers, response):
        monkeypatch.setattr(module, "MOST", 60)
    some = numbers.importances_of(found)
    assert some.keys() == everything.keys()
    assert some != everything


def test_a_choice_of_0_that_was_stopped_once_is_marked():
    """The star stands on the trial that came to its end."""
    at = np.array([[1e-2, 0], [1e-3, 0], [1e-3, 0], [1e-1, 1]])
    found = tuned(at, [7.0, None, 5.0, 6.0], ("learning_rate", "warmup"))
    assert page_of._chosen(numbers.search_of(found), found) == 2


@pytest.mark.parametrize(("coupling", "is_known"), [("optax", False), (dwd.PAPER, True)])
def test_what_decays_is_left_out_where_no_learning_rate_is_known(tmp_path, coupling, is_known):
    """A search over λ alone, whose learning rate the user has fixed."""
    at = places(20, 0)[:, 1:]
    found = tuned(at, error(2.0**-7, at[:, 0]), ("weight_decay",))
    said = text_of(tmp_path, found, params=PARAMS, coupling=coupling)
    assert ("What decays" in said) == is_known


def test_stopped_and_diverged_trials_are_told_apart(tmp_path):
    at = places(60, 0)
    values = [*error(*at.T)]
    values[3:6], values[10:12] = [None] * 3, [math.nan] * 2
    found = tuned(at, values)
    said = text_of(tmp_path, found)
    assert "60 trials, 3 of them stopped early, 2 diverged;" in said
    table = said[said.index("All trials as a table") :]
    assert (table.count("stopped early"), table.count("diverged")) == (3, 2)


def test_trials_that_died_with_their_worker_are_left_out():
    found = search(20)
    found.study.add_trial(
        optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, params={}, distributions={})
    )
    assert numbers.search_of(found).trials.sizes["trial"] == 20


def test_a_single_trial_is_a_page(tmp_path):
    found = search(1, seeds=1)
    said = text_of(tmp_path, found, params=PARAMS)
    assert "1 trial; the best one trained again with 1 fresh seed." in said
    assert "the trials do not show where it is best" in said
    assert "The trials show no ridge: 1 came to their end" in said
    assert not re.search(r"\bnan\b", said)


def test_trials_that_diverged_did_not_come_to_their_end(tmp_path):
    said = text_of(tmp_path, tuned(places(12, 0), [5.0, 6.0] + [math.nan] * 10))
    assert "The trials show no ridge: 2 came to their end" in said


def test_a_target_needs_the_runs_it_is_planned_from(tmp_path, found):
    with pytest.raises(ValueError, match="target needs run, the runs of the search"):
        write(tmp_path, found, target=TARGET)
    assert not list(tmp_path.iterdir())


def test_a_search_in_which_nothing_ended_is_refused(tmp_path):
    found = search(5)
    empty = optuna.create_study()
    with pytest.raises(ValueError, match="tuned has no trial that came to its end"):
        write(tmp_path, type(found)(**{**vars(found), "study": empty}))


def test_nothing_is_loaded_from_anywhere(page, read):
    for tag, attributes in read.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            target = attributes.get(name) or ""
            assert not target or target.startswith(("#", "data:")), (tag, target)
    assert not re.search(r"url\(|@import", page)


def test_every_figure_says_what_it_shows(read):
    said = [a["aria-label"] for t, a in read.tags if t == "svg"]
    assert [words.split()[0] for words in said] == ["landscape.", "progress.", "slices."]
    assert "weight decay λ over learning rate α" in said[0]
    assert "the choice, ridge: best λ for each α" in said[0]


@needs_browser
def test_it_opens_from_disk_without_a_complaint(folder, page, tmp_path):
    done = browse(
        tmp_path, "--dump-dom", "--enable-logging=stderr", (folder / "report.html").as_uri()
    )
    assert "CONSOLE" not in done.stderr
    wide = measured(page, tmp_path, 1200)
    assert len(wide["images"]) == 3
    assert all(width > 0 for width in wide["images"])
    assert [name for name in wide["loaded"] if not name.startswith("data:")] == []
    hit = [text for *_, text in wide["boxes"]]
    assert len(hit) == 80
    assert all(text and text.startswith("α = ") for text in hit)


@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_needs_no_sideways_scrolling(page, tmp_path, width):
    found = measured(page, tmp_path, width)
    assert found["width"] == width
    assert found["needed"] <= width


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_all_text_is_readable_in_light_and_dark(page, tmp_path, dark):
    scheme = f"--blink-settings=preferredColorScheme={int(not dark)}"
    assert_readable(measured(page, tmp_path, 1200, scheme), dark)
