"""The plan of a run: each rule against its closed form, published numbers, and what would come of a λ."""

import json
import math
from dataclasses import replace
from html import escape
from importlib.metadata import EntryPoint

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import decoupled_wd as dwd
from decoupled_wd import cli
from decoupled_wd.planning._fit import student
from decoupled_wd.planning._rules import RULES

RUN = dwd.Run(3e-4, 96, 6e4, 3, 2e-4, 3e6, 96, 6, dwd.CORRECTED, "cosine")
REFERENCE = dwd.Run(7e-4, 32, 5e4, 10, 0.05, 2e6, 48, 4, "torch")
LANGUAGE = dwd.Run(6e-4, 2**19, 1e10, parameters=124e6, coupling="optax")
SMALLER = dwd.Run(6e-4, 2**17, 2.5e9, weight_decay=0.1, parameters=124e6, coupling="optax")

# c of each rule, of run r, reference q, and c₀ = λ₀·α₀ of the reference
FORMULAS = {
    "normalised": lambda r, q, c: (
        c
        * math.sqrt(
            r.batch_size / (r.dataset_size * r.epochs) * q.dataset_size * q.epochs / q.batch_size
        )
    ),
    "constant timescale": lambda r, q, c: (
        c * (r.batch_size / r.dataset_size) / (q.batch_size / q.dataset_size)
    ),
    "Power Lines slope": lambda r, q, c: (
        c
        * (r.batch_size / (r.dataset_size * r.epochs))
        / (q.batch_size / (q.dataset_size * q.epochs))
        * ((r.dataset_size * r.epochs / r.parameters) / (q.dataset_size * q.epochs / q.parameters))
        ** 0.527
    ),
    "nanochat": lambda r, q, c: (
        c
        / q.learning_rate
        * math.sqrt(r.batch_size / q.batch_size)
        * (q.dataset_size * q.epochs / (r.dataset_size * r.epochs))
        * r.learning_rate
    ),
    "independent of width": lambda r, q, c: c,
    "singular values": lambda r, q, c: c * math.sqrt(q.width / r.width),
    "CompleteP": lambda r, q, c: c,
    "λ_norm = 0.025": lambda r, q, c: 0.025 * math.sqrt(r.batch_size / (r.dataset_size * r.epochs)),
    "Power Lines": lambda r, q, c: (
        r.batch_size / (1.084 * (180_000 / r.parameters) ** -0.527 * r.dataset_size * r.epochs)
    ),
    "timescale: an epoch": lambda r, q, c: r.batch_size / r.dataset_size,
    "timescale: the run": lambda r, q, c: r.batch_size / (r.dataset_size * r.epochs),
    "habit: the reference's λ": lambda r, q, c: c * r.learning_rate / q.learning_rate,
    "habit: 0.1": lambda r, q, c: 0.1 * r.learning_rate,
    "habit: PyTorch's default": lambda r, q, c: 0.01 * r.learning_rate,
    "habit: optax's default": lambda r, q, c: 1e-4 * r.learning_rate,
    "this run's λ": lambda r, q, c: r.weight_decay * r.learning_rate,
}


@pytest.fixture(scope="module")
def planned():
    """The rows by their rule, of a run and a reference that differ in every number."""
    return {row.rule: row for row in dwd.plan(RUN, REFERENCE).rows}


@pytest.fixture(scope="module")
def language():
    return dwd.plan(LANGUAGE, SMALLER)


def row_of(plan, rule):
    (row,) = [row for row in plan.rows if row.rule == rule]
    return row


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_a_rule_is_its_closed_form(rule, planned):
    row = planned[rule]
    c = FORMULAS[rule](RUN, REFERENCE, 0.05 * 7e-4)
    assert row.fraction == pytest.approx(c, rel=1e-12)
    # CORRECTED has p = 1
    assert row.weight_decay == pytest.approx(c / 3e-4, rel=1e-12)


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_the_unit_of_the_reference_does_not_matter(rule, planned):
    in_paper_s = replace(REFERENCE, weight_decay=0.05 * 7e-4, coupling="paper")
    row = row_of(dwd.plan(replace(RUN, schedule=None), in_paper_s), rule)
    assert row.fraction == pytest.approx(planned[rule].fraction, rel=1e-12)


# Published numbers.


@pytest.mark.parametrize(
    ("epochs", "c"), [(25, 2.53e-4), (100, 1.26e-4), (400, 6.3e-5), (1800, 3e-5)]
)
def test_the_paper_s_check_values(epochs, c):
    """arXiv 1711.05101, appendix B.1: λ_norm = 0.025 on CIFAR-10 with batches of 128."""
    run = dwd.Run(1e-3, 128, 50_000, epochs)
    row = row_of(dwd.plan(run), "λ_norm = 0.025")
    assert row.weight_decay == row.fraction == pytest.approx(c, rel=0.01)
    assert row.outside == ""
    longest = replace(run, epochs=1800, weight_decay=3e-5)
    carried = row_of(dwd.plan(run, longest), "normalised").fraction
    assert carried == pytest.approx(c, rel=0.02)


def test_what_nanochat_prints_for_its_model_of_depth_4():
    """'Scaling weight decay from 0.280000 to 1.889903 for depth 4', with batches of 262 144."""
    matrices = {4: 3_145_776, 12: 84_935_088}
    head = {4: 8_388_608, 12: 25_165_824}
    tokens = {depth: 9.5 * (matrices[depth] + head[depth]) for depth in (4, 12)}
    reference = dwd.Run(0.02, 2**19, tokens[12], weight_decay=0.28, coupling="torch")
    run = replace(
        reference,
        learning_rate=0.02 * 0.5**0.5,
        batch_size=2**18,
        dataset_size=tokens[4],
        weight_decay=None,
    )
    row = row_of(dwd.plan(run, reference), "nanochat")
    assert row.weight_decay == pytest.approx(1.889903, abs=5e-7)
    assert row.outside == ""
    # with α ∝ √b it is a constant timescale
    assert row_of(dwd.plan(run, reference), "constant timescale").fraction == pytest.approx(
        row.fraction
    )


@pytest.mark.parametrize(("ratio", "share"), [(1, 1.084), (20, 0.2235), (1000, 0.02844)])
def test_power_lines_takes_its_share_of_the_run(ratio, share):
    """arXiv 2505.13738: about the whole run at one token a parameter, 3 % of it at a thousand."""
    run = dwd.Run(1e-3, 1e5, ratio * 1e9, parameters=1e9)
    row = row_of(dwd.plan(run), "Power Lines")
    assert row.timescale_epochs == pytest.approx(share, rel=1e-3)
    assert row.outside == ""


# What would come of a λ.


def test_the_times_are_those_of_the_fraction(planned):
    for row in planned.values():
        assert row.timescale_steps * row.fraction == pytest.approx(1)
        assert row.timescale_tokens == pytest.approx(96 / row.fraction)
        assert row.timescale_epochs == pytest.approx(96 / row.fraction / 6e4)
        assert (1 - row.fraction) ** row.half_life_steps == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", [None, "cosine", "linear"])
@pytest.mark.parametrize("coupling", ["paper", dwd.CONSTANT, dwd.CORRECTED])
def test_the_last_tenth_is_the_sum_of_its_steps(schedule, coupling):
    run = dwd.Run(0.5, 10, 1000, 2, weight_decay=0.02, coupling=coupling, schedule=schedule)
    row = row_of(dwd.plan(run), "this run's λ")
    t = np.arange(200)
    eta = {None: 1 + 0 * t, "cosine": (1 + np.cos(np.pi * t / 200)) / 2, "linear": 1 - t / 200}
    c = row.fraction * eta[schedule] ** {"paper": 1, dwd.CONSTANT: 0, dwd.CORRECTED: 2}[coupling]
    shares = [eta[schedule][s] * np.prod(1 - c[s + 1 :]) for s in t]
    assert row.last_tenth == pytest.approx(sum(shares[180:]) / sum(shares), rel=1e-4)


def test_a_schedule_of_optax_is_that_of_its_name():
    for name, schedule in {
        "cosine": optax.cosine_decay_schedule(3e-4, RUN.steps),
        "linear": optax.linear_schedule(3e-4, 0.0, RUN.steps),
    }.items():
        by_name = dwd.plan(replace(RUN, schedule=name)).rows
        for a, b in zip(by_name, dwd.plan(replace(RUN, schedule=schedule)).rows, strict=True):
            assert a.last_tenth == pytest.approx(b.last_tenth, rel=1e-4)


def test_a_schedule_has_its_peak_where_the_run_says():
    warm = optax.warmup_cosine_decay_schedule(0.0, 3e-4, 40, RUN.steps)
    assert replace(RUN, schedule=warm).rate(40) == pytest.approx(1)
    for peak in (2.9e-4, 6.1e-4):
        with pytest.raises(ValueError, match="must be its peak"):
            replace(RUN, learning_rate=peak, schedule=warm)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda step: 3e-4 if step < 50 else 1e-4,
        lambda step: 3e-4 * min(1, (step + 1) / 100),
        lambda step: np.interp(step, [0, 100, 1875], [0, 3e-4, 0]),
    ],
)
def test_a_schedule_that_cannot_be_traced_is_refused_by_its_name(schedule):
    with pytest.raises(TypeError, match=r"schedule must take a traced step.*jnp\.where"):
        replace(RUN, schedule=schedule)


@pytest.mark.parametrize("c", [1e-3, 2.5e-3, 3e-3, 0.01])
def test_bfloat16_loses_what_preflight_says(c):
    run = dwd.Run(0.1, 8, 800, weight_decay=c, schedule=lambda step: 0.1 * 0.8 ** (step > 50))
    row = row_of(dwd.plan(run), "this run's λ")
    params = jax.ShapeDtypeStruct((3, 3), jnp.bfloat16)
    for fraction, lost in ((c, row.lost_bf16), (0.8 * c, row.lost_bf16_at_end)):
        (leaf,) = dwd.preflight(params, fraction, on_loss="return").rows
        assert lost == pytest.approx(1 - leaf.moved)


@pytest.mark.parametrize("c", [7e-6, 9e-6, 1.2e-5, 2e-5])
def test_24_bits_lose_what_rounding_to_nearest_loses(c):
    """Nothing moves at c <= 2^-17, which is 7.6e-6, and everything from 2^-16 on."""
    run = dwd.Run(0.1, 8, 800, weight_decay=c)
    s = 1 + np.arange(2**15) * 2.0**-15
    stays = np.round(s * (1 - c) * 2**15) == s * 2**15
    row = row_of(dwd.plan(run), "this run's λ")
    assert row.lost_24_bits == row.lost_24_bits_at_end == pytest.approx(stays.mean(), abs=1e-3)


def test_no_decay_keeps_every_step_and_moves_no_weight():
    row = row_of(dwd.plan(dwd.Run(0.1, 8, 800, weight_decay=0)), "this run's λ")
    assert row.timescale_steps == row.half_life_steps == math.inf
    assert row.last_tenth == pytest.approx(0.1)
    assert row.lost_bf16 == row.lost_24_bits == 1


def test_what_removes_more_than_the_weight_keeps_the_last_step_alone():
    row = row_of(dwd.plan(dwd.Run(0.1, 8, 800, weight_decay=3)), "this run's λ")
    assert row.last_tenth == 1
    assert row.half_life_steps == 0


def test_under_a_schedule_only_steps_above_one_remove_the_whole_weight():
    run = dwd.Run(1.0, 10, 1000, 2, weight_decay=3, schedule="linear")
    eta = 1 - np.arange(200) / 200
    kept = 1 - np.minimum(3 * eta, 1)
    shares = [eta[s] * np.prod(kept[s + 1 :]) for s in range(200)]
    row = row_of(dwd.plan(run), "this run's λ")
    assert row.last_tenth == pytest.approx(sum(shares[180:]) / sum(shares), rel=1e-4)


@pytest.mark.parametrize("schedule", [None, "cosine"])
def test_a_run_a_thousand_times_as_long_with_as_much_less_decay_remembers_the_same(schedule):
    short = dwd.Run(1.0, 1, 1e6, weight_decay=1e-5, schedule=schedule)
    long = dwd.Run(1.0, 1, 1e9, weight_decay=1e-8, schedule=schedule)
    a, b = (row_of(dwd.plan(run), "this run's λ").last_tenth for run in (short, long))
    assert a == pytest.approx(b, rel=1e-4)


def test_a_run_of_one_step_is_all_its_last_tenth():
    assert {row.last_tenth for row in dwd.plan(dwd.Run(0.1, 8, 8)).rows} == {1.0}


def test_a_plan_is_made_inside_jit_too():
    found = []

    def step(x):
        found.append(dwd.plan(RUN, REFERENCE))
        return x

    jax.jit(step)(1.0)
    assert found[0].rows == dwd.plan(RUN, REFERENCE).rows


# What applies, and where.


def test_a_rule_that_lacks_a_number_says_which():
    bare = dwd.Run(1e-3, 8, 800)
    plan = dwd.plan(bare)
    assert {row.rule for row in plan.rows} == {
        rule.name for rule in RULES if not (rule.refers or rule.needs)
    }
    needs = {missing.rule: missing.needs for missing in plan.missing}
    assert needs["normalised"] == ("reference",)
    assert needs["Power Lines"] == ("parameters",)
    assert needs["CompleteP"] == ("reference", "width", "depth")
    wide = replace(bare, width=8)
    (missing,) = [
        each
        for each in dwd.plan(wide, replace(bare, weight_decay=1e-3)).missing
        if each.rule == "singular values"
    ]
    assert missing.needs == ("width of the reference",)
    assert "left out without parameters: Power Lines" in str(plan)


def test_what_is_asked_for_brings_a_rule_in():
    assert dwd.plan(RUN, REFERENCE).missing == ()


@pytest.mark.parametrize(
    ("changes", "rule", "words"),
    [
        ({}, "normalised", "found on 50 000 to 1 281 167 images"),
        ({}, "constant timescale", ""),
        ({}, "Power Lines", ""),
        ({"parameters": 7e9}, "Power Lines", "found on 111 million to 3.3 billion parameters"),
        ({"epochs": 2}, "Power Lines", "found in runs of one epoch"),
        ({"epochs": 2}, "Power Lines slope", "found in runs of one epoch"),
        ({}, "nanochat", "takes α/α₀ to be √(b/b₀) = 2, and it is 1"),
        ({"learning_rate": 1.2e-3}, "nanochat", ""),
        (
            {"width": 96},
            "independent of width",
            "takes α/α₀ to be d₀/d = 0.5, and it is 1; says nothing of another batch or data set",
        ),
        (
            {"width": 96, "learning_rate": 3e-4, "batch_size": 2**17, "dataset_size": 2.5e9},
            "singular values",
            "",
        ),
    ],
)
def test_a_rule_outside_its_range_says_so(changes, rule, words):
    smaller = replace(SMALLER, width=48)
    plan = dwd.plan(replace(LANGUAGE, **changes), smaller)
    assert row_of(plan, rule).outside == words
    assert (f"* {rule}: {words}" in str(plan)) == bool(words)


@pytest.mark.parametrize("rule", ["Power Lines", "λ_norm = 0.025"])
def test_a_rule_without_a_reference_is_not_outside_for_that_of_the_others(rule):
    run = dwd.Run(1e-3, 128, 50_000, parameters=124e6)
    for reference in ({}, {"parameters": None}, {"parameters": 1e6}, {"epochs": 9}):
        given = replace(run, weight_decay=1e-3, dataset_size=2000, **reference)
        assert row_of(dwd.plan(run, given), rule).outside == ""


def test_the_disagreement_is_that_of_published_rules(language):
    values = sorted(row.weight_decay for row in language.rows if row.kind == "published")
    assert language.disagreement == pytest.approx(values[-1] / values[0])
    assert [row.weight_decay for row in language.compared] == pytest.approx(values)
    assert f"the rules disagree by a factor of {values[-1] / values[0]:.3g}" in str(language)
    inside = [row.weight_decay for row in language.compared if not row.outside]
    factor = max(inside) / min(inside)
    assert f"what they were found on, by a factor of {factor:.3g}: constant timescale" in str(
        language
    )
    decides = language.compared[0].assumption, language.compared[-1].assumption
    assert f"what decides is whether {decides[0]}, or {decides[1]}" in str(language)


def test_text_and_html_show_every_rule_with_its_source(language):
    text, html = str(language), language._repr_html_()
    for row in language.rows:
        assert f"\n{row.rule}" in text
        assert f"{row.rule}: {row.assumption} ({row.source})" in text
        star = " *" if row.outside else ""
        assert f"<td>{escape(row.rule)}{star}</td>" in html
    assert "the reference: learning_rate=0.0006, batch_size=131072, dataset_size=2.5e+09" in text
    assert "c_t = λ·lr" in text


def test_json_is_a_list_of_objects_without_infinities():
    rows = json.loads(dwd.plan(replace(LANGUAGE, weight_decay=0.0)).to_json())
    assert {"rule", "weight_decay", "fraction", "timescale_steps", "source"} <= rows[0].keys()
    (given,) = [row for row in rows if row["kind"] == "given"]
    assert given["timescale_steps"] is None
    assert given["weight_decay"] == 0


# The command.

COMMAND = "--learning-rate 6e-4 --batch-size 524288 --dataset-size 1e10 --parameters 124e6 --coupling optax"


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments):
        cli.main(["plan", *COMMAND.split(), *arguments])
        return capsys.readouterr().out

    point = EntryPoint("plan", "decoupled_wd.planning.cli:main", "decoupled_wd.commands")
    monkeypatch.setattr(cli, "entry_points", lambda **_: [point])
    return run


def test_the_command_prints_the_table(command):
    assert command() == f"{dwd.plan(LANGUAGE)}\n"


def test_the_command_prints_json(command):
    assert json.loads(command("--json")) == json.loads(dwd.plan(LANGUAGE).to_json())


def test_the_command_s_reference_is_the_run_but_for_what_is_told(command):
    smaller = ["--reference-batch-size", "131072", "--reference-dataset-size", "2.5e9"]
    printed = command(*smaller, "--reference-weight-decay", "0.1", "--weight-decay", "0.2")
    assert printed == f"{dwd.plan(replace(LANGUAGE, weight_decay=0.2), SMALLER)}\n"
    scheduled = command("--schedule", "linear", "--json")
    assert scheduled.strip() == dwd.plan(replace(LANGUAGE, schedule="linear")).to_json()


def test_the_command_takes_no_λ_of_the_run_for_that_of_the_reference(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        command("--weight-decay", "0.1", "--reference-batch-size", "131072")
    assert "reference has weight_decay=None; pass the λ" in capsys.readouterr().err


# A law of one's own.


def tuned(shares, **changes):
    """Runs of so many tokens a parameter whose best timescale is a share of them."""
    sizes = {
        ratio: dwd.Run(1e-3, 100, ratio * 1e4, parameters=1e4, coupling="torch", **changes)
        for ratio in shares
    }
    return [
        replace(run, weight_decay=run.in_unit(100 / (shares[ratio] * run.data_seen)))
        for ratio, run in sizes.items()
    ]


def test_an_exact_law_is_found_and_carried_to_another_run():
    fit = dwd.fit_timescale(tuned({ratio: 0.9 * ratio**-0.4 for ratio in (5, 10, 40, 80)}))
    assert (fit.coefficient, fit.exponent) == pytest.approx((0.9, -0.4))
    assert fit.exponent_high - fit.exponent_low == pytest.approx(0, abs=1e-9)
    row = row_of(dwd.plan(LANGUAGE, fitted=fit), "fitted")
    c = 2**19 / (0.9 * (1e10 / 124e6) ** -0.4 * 1e10)
    assert row.fraction == pytest.approx(c)
    assert (row.weight_decay_low, row.weight_decay, row.weight_decay_high) == pytest.approx(
        3 * [c / 6e-4]
    )
    assert row.outside == "fitted on data per parameter of 5 to 80, and it is 80.65"
    assert row in dwd.plan(LANGUAGE, fitted=fit).compared


def test_a_fitted_row_needs_what_it_was_fitted_on():
    fit = dwd.fit_timescale(tuned({5: 0.5, 10: 0.3, 20: 0.2}))
    (missing,) = [
        m
        for m in dwd.plan(replace(LANGUAGE, parameters=None), fitted=fit).missing
        if m.rule == "fitted"
    ]
    assert missing.needs == ("parameters",)
    over = dwd.fit_timescale(tuned({5: 0.5, 10: 0.3, 20: 0.2}), over="data_seen")
    assert row_of(dwd.plan(replace(LANGUAGE, parameters=None), fitted=over), "fitted")


def test_runs_that_differ_by_rounding_alone_make_no_law():
    ratios = [20, math.nextafter(20, 21), math.nextafter(20, 19)]
    shares = dict(zip(ratios, (0.3, 0.2, 0.25), strict=True))
    with pytest.raises(ValueError, match="data_per_parameter 20, and a power law needs two"):
        dwd.fit_timescale(tuned(shares))


def test_runs_too_near_each_other_make_no_law():
    near = {20: 0.3, 20.001: 0.2, 20.002: 0.28, 20.003: 0.42}
    with pytest.raises(ValueError, match=r"data_per_parameter from 20 to 20.*differ more"):
        dwd.fit_timescale(tuned(near))


def test_a_law_says_where_it_says_nothing():
    shares = {100: 0.3, 101: 0.2, 102: 0.28}
    fit = dwd.fit_timescale(tuned(shares))
    for ratio in (1e-9, 1e9):
        far = replace(LANGUAGE, parameters=1e10 / ratio)
        with pytest.raises(ValueError, match=r"nothing of data_per_parameter=1e.09; pass a run"):
            dwd.plan(far, fitted=fit)


def test_the_fit_and_its_intervals_are_those_of_scipy():
    shares = {5: 0.52, 9: 0.31, 20: 0.33, 60: 0.14, 90: 0.11}
    fit = dwd.fit_timescale(tuned(shares), level=0.9)
    x, y = np.log([*shares]), np.log([*shares.values()])
    line = stats.linregress(x, y)
    t = stats.t.ppf(0.95, 3)
    assert (fit.exponent, fit.coefficient) == pytest.approx((line.slope, math.exp(line.intercept)))
    half = t * line.stderr
    assert (fit.exponent_low, fit.exponent_high) == pytest.approx(
        (line.slope - half, line.slope + half)
    )
    # of one more tuned run, by the matrices of least squares
    design, at = np.stack([np.ones(5), x], axis=1), np.array([1.0, math.log(300)])
    left = y - design @ np.linalg.lstsq(design, y)[0]
    half = t * math.sqrt(left @ left / 3 * (1 + at @ np.linalg.inv(design.T @ design) @ at))
    share = fit.share(replace(LANGUAGE, parameters=1e10 / 300))
    middle = line.intercept + line.slope * at[1]
    assert np.log(share) == pytest.approx([middle, middle - half, middle + half])
    row = row_of(dwd.plan(LANGUAGE, fitted=fit), "fitted")
    assert row.weight_decay_low < row.weight_decay < row.weight_decay_high


def test_the_interval_holds_a_further_run_as_often_as_it_says():
    rng, ratios, held = np.random.default_rng(0), (5, 10, 20, 40), 0
    for _ in range(400):
        noise = dict(zip(ratios, rng.normal(size=4) * 0.3, strict=True))
        fit = dwd.fit_timescale(tuned({r: r**-0.5 * math.exp(noise[r]) for r in ratios}))
        share = fit.share(replace(LANGUAGE, parameters=1e8))
        held += share.low < 0.1 * math.exp(rng.normal() * 0.3) < share.high
    # three standard deviations of a binomial
    assert abs(held / 400 - 0.95) < 0.033


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 201])
def test_student_s_t_is_that_of_scipy(level, freedom):
    assert student(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)
