"""The one law ``c_t = λ·α^p·η_t^s`` and the conversions that follow from it."""

import itertools

import jax
import optax
import pytest

import decoupled_wd as dwd

NAMED = [dwd.PAPER, dwd.LR, dwd.CONSTANT, dwd.CORRECTED, dwd.SQUARED]


@pytest.mark.parametrize("coupling", NAMED)
@pytest.mark.parametrize("step", [0, 3, 7])
def test_fraction_is_the_law(coupling, step):
    peak, weight_decay = 0.2, 0.3
    schedule = optax.linear_schedule(peak, 0.0, 10)
    fraction = coupling.fraction(weight_decay, schedule, peak)
    eta = 1 - step / 10
    expected = weight_decay * peak**coupling.p * eta**coupling.s
    assert float(fraction(step)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("coupling", NAMED)
def test_a_constant_learning_rate_has_multiplier_one(coupling):
    assert coupling.fraction(0.3, 0.2)(5) == pytest.approx(0.3 * 0.2**coupling.p)


def test_a_zero_learning_rate_is_no_division():
    assert dwd.PAPER.fraction(0.3, 0.0)(0) == 0.3
    assert dwd.LR.fraction(0.3, 0.0)(0) == 0


@pytest.mark.parametrize("coupling", [dwd.LR, dwd.CONSTANT])
def test_the_peak_cancels_where_p_is_s(coupling):
    schedule = optax.linear_schedule(0.2, 0.0, 10)
    with_peak = coupling.fraction(0.3, schedule, 0.2)(4)
    assert float(coupling.fraction(0.3, schedule)(4)) == pytest.approx(float(with_peak))


@pytest.mark.parametrize("coupling", [dwd.PAPER, dwd.CORRECTED])
def test_the_peak_is_never_guessed(coupling):
    with pytest.raises(ValueError, match=r"peak_learning_rate=.*highest"):
        coupling.fraction(0.3, optax.linear_schedule(0.2, 0.0, 10))


def test_a_number_with_a_peak_is_a_point_of_a_schedule():
    assert dwd.PAPER.fraction(0.3, 0.05, 0.2)(0) == pytest.approx(0.3 * 0.25)


def test_the_decay_may_be_a_schedule():
    fraction = dwd.LR.fraction(lambda step: 0.1 * (step + 1), 0.5)
    assert [fraction(step) for step in range(3)] == pytest.approx([0.05, 0.1, 0.15])


def test_the_peak_may_be_traced():
    def fraction(peak):
        return dwd.PAPER.fraction(0.3, lambda _: 0.1, peak)(0)

    assert float(jax.jit(fraction)(0.2)) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("weight_decay", "from_", "to", "learning_rate", "expected"),
    [
        (0.1, "fastai", "paper", 3e-3, 3e-4),
        (1e-5, "composer", "torch", 1e-3, 1e-2),
        (0.01, "torch", "optax", 1e-3, 0.01),
        (2e-5, "paper", "tensorflow_addons", 0.1, 2e-5),
        (0.5, dwd.LR, dwd.CONSTANT, 0.1, 0.05),
    ],
)
def test_conversions_users_get_wrong(weight_decay, from_, to, learning_rate, expected):
    converted = dwd.convert_weight_decay(
        weight_decay, from_=from_, to=to, learning_rate=learning_rate
    )
    assert converted == pytest.approx(expected)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(dwd.FRAMEWORKS, repeat=2)))
def test_there_and_back(a, b):
    there = dwd.convert_weight_decay(0.1, from_=a, to=b, learning_rate=3e-4)
    assert dwd.convert_weight_decay(there, from_=b, to=a, learning_rate=3e-4) == pytest.approx(0.1)
    at_peak = [dwd.FRAMEWORKS[k].fraction(wd, 3e-4)(0) for k, wd in ((a, 0.1), (b, there))]
    assert at_peak[0] == pytest.approx(at_peak[1])


# what each source takes from a weight of 1 in a step, as it writes it: wd is λ, lr that of the step, first the peak
WRITTEN = {
    "maxtext": lambda wd, lr, first: (
        lr * wd
    ),  # adam_pax: x + weight_decay * v, then times −lr; or optax.adamw
    "levanter": lambda wd, lr, first: (
        lr * wd
    ),  # optax.add_decayed_weights(wd), then optax.scale(−lr)
    "apex": lambda wd, lr, first: lr * wd,  # update = m / denom + decay * p; p = p − lr * update
    "heavyball": lambda wd, lr, first: wd * lr,  # _compilable_update_: p * (1 − decay * lr)
    "optimi": lambda wd, lr, first: 1 - (1 - lr * wd),
    "optimi.decouple_lr": lambda wd, lr, first: 1 - (1 - lr / first * wd),  # its max_lr
    "flashoptim": lambda wd, lr, first: wd * lr,
    "flashoptim.decouple_lr": lambda wd, lr, first: wd * (lr / first),  # its initial_lr
    "pytorch_optimizer.decouple_lr": lambda wd, lr, first: lr * (wd / first),  # its initial_lr
    "emerging_optimizers": lambda wd, lr, first: wd * lr,
    "emerging_optimizers.independent": lambda wd, lr, first: wd,
    "emerging_optimizers.palm": lambda wd, lr, first: wd * lr * lr,
    "modded_nanogpt": lambda wd, lr, first: (wd * lr) * lr,  # eff_wd = wd * lr, times eff_lr
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_a_row_takes_what_its_source_takes(name, eta):
    fraction = dwd.FRAMEWORKS[name].fraction(0.4, lambda count: 0.02 * eta, 0.02)
    assert float(fraction(0)) == pytest.approx(WRITTEN[name](0.4, 0.02 * eta, 0.02))


def test_an_optimiser_of_a_framework_has_the_default_unit_and_an_option_its_own():
    from_ = {"to": "torch", "learning_rate": 0.02}
    assert dwd.convert_weight_decay(0.4, from_="flashoptim.FlashAdamW", **from_) == 0.4
    assert dwd.convert_weight_decay(0.4, from_="flashoptim.decouple_lr", **from_) == pytest.approx(
        0.4 / 0.02
    )


def test_couplings_are_values():
    assert dwd.Coupling(0, 1) == dwd.PAPER
    assert len({dwd.Coupling(0, 1), dwd.PAPER}) == 1
    with pytest.raises(TypeError):
        dwd.FRAMEWORKS["mine"] = dwd.LR
