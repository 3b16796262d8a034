"""Does a test notice? Each formula of the core made wrong in one place, and the test that must then fail.

``python tests/mutations.py`` runs them all, each in a copy of the package and the tests in a temporary directory,
and exits with 1 if one survives; ``python tests/mutations.py 3 17`` runs two of them. First the copy as it is must
pass the same tests: a harness that kills everything proves nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FAILED = 1  # pytest's code for a failing test; an error while collecting is another, and no proof
WORKERS, SECONDS = 2, 300


class Mutation(NamedTuple):
    """One text of one module replaced, and the tests that must fail."""

    module: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    # coupling
    Mutation("coupling", "alpha**self.p * eta**self.s", "alpha**self.s * eta**self.p",
             "test_coupling.py::test_fraction_is_the_law"),
    Mutation("coupling", "value_at(learning_rate, count) / alpha",
             "value_at(learning_rate, count) * alpha",
             "test_coupling.py::test_fraction_is_the_law"),
    Mutation("coupling", '_coupling("from_", from_).p - _coupling("to", to).p',
             '_coupling("to", to).p - _coupling("from_", from_).p',
             "test_coupling.py::test_conversions_users_get_wrong"),
    Mutation("coupling", "PAPER = Coupling(p=0, s=1)", "PAPER = Coupling(p=0, s=0)",
             "test_coupling.py::test_the_peak_is_never_guessed"),
    Mutation("coupling", "LR = Coupling(p=1, s=1)", "LR = Coupling(p=1, s=0)",
             "test_coupling.py::test_the_peak_cancels_where_p_is_s"),
    Mutation("coupling", "CORRECTED = Coupling(p=1, s=2)", "CORRECTED = Coupling(p=1, s=3)",
             "test_equivalents.py::test_the_formula_of_a_row_is_what_its_coupling_does_away_from_the_peak"),
    Mutation("coupling", "learning_rate if _is_number(learning_rate) else 1.0", "1.0",
             "test_coupling.py::test_a_constant_learning_rate_has_multiplier_one"),
    # strengths
    Mutation("strengths", "(batch_size / (dataset_size * epochs)) ** 0.5",
             "batch_size / (dataset_size * epochs)",
             "test_strengths.py::test_normalized_gives_the_papers_check_values"),
    Mutation("strengths", "float(cycle_factor) ** (-0.5 * index)", "float(cycle_factor) ** (-1.0 * index)",
             "test_strengths.py::test_normalized_per_cycle_changes_at_each_restart"),
    Mutation("strengths", "learning_rate * penalty / dataset_size", "penalty / dataset_size",
             "test_paper.py::test_textbook_l2_in_the_cost_is_sgd_with_decay_on_the_weights_alone"),
    Mutation("strengths", "_from_fraction(1 / steps,", "_from_fraction(2 / steps,",
             "test_strengths.py::test_timescale_and_half_life"),
    Mutation("strengths", "-math.expm1(-math.log(2) / steps)", "math.log(2) / steps",
             "test_strengths.py::test_timescale_and_half_life"),
    Mutation("strengths", "(batch_ratio / (dataset_ratio * epochs_ratio)) ** 0.5",
             "batch_ratio / (dataset_ratio * epochs_ratio)",
             "test_strengths.py::test_the_two_transfers_keep_what_they_name"),
    Mutation("strengths", "weight_decay, batch_ratio / dataset_ratio,",
             "weight_decay, dataset_ratio / batch_ratio,",
             "test_strengths.py::test_the_two_transfers_keep_what_they_name"),
    Mutation("strengths", "fraction / learning_rate**coupling.p", "fraction * learning_rate**coupling.p",
             "test_strengths.py::test_their_unit_is_the_couplings"),
    # schedules
    Mutation("schedules", "(0.5 + 0.5 * jnp.cos(", "(0.5 - 0.5 * jnp.cos(",
             "test_schedules.py::test_warm_restarts_by_counting"),
    Mutation("schedules", "floor + (peak - floor) *", "floor + peak *",
             "test_schedules.py::test_the_floor_is_where_a_cycle_ends"),
    Mutation("schedules", 'side="right"', 'side="left"',
             "test_schedules.py::test_restarts_at_100_300_700_1500"),
    Mutation("schedules", "np.rint(first_cycle_steps", "np.floor(first_cycle_steps",
             "test_schedules.py::test_growth_that_is_not_whole_is_rounded_to_steps"),
    # preconditioners
    Mutation("preconditioners", "momentum * widen(m) + lr * widen(g)", "lr * (momentum * widen(m) + widen(g))",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgdw-cosine]"),
    Mutation("preconditioners", "(1 - b1) * g + b1 * widen(m)", "b1 * g + (1 - b1) * widen(m)",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    Mutation("preconditioners", "(1 - b2) * (g * g.conj()).real", "(1 - b2) * jnp.abs(g)",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    Mutation("preconditioners", "(g * g.conj()).real", "(g * g).real",
             "test_preconditioners.py::test_complex_gradients_have_a_real_second_moment"),
    Mutation("preconditioners", "(jnp.sqrt(v_hat) + eps)", "jnp.sqrt(v_hat + eps)",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    Mutation("preconditioners", "1 - b1**t, 1 - b2**t", "1 - b2**t, 1 - b1**t",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    # AdaBound
    Mutation("_adabound", "jnp.sqrt(1 - b2**t)", "(1 - b2**t)",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    Mutation("_adabound", "f * (1 + 1 / (gamma * t))", "f * (1 + 1 / (gamma * t + 1))",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    Mutation("_adabound", "f * (gamma * t / (gamma * t + 1))", "f * (1 / (gamma * t + 1))",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    Mutation("_adabound", "(jnp.sqrt(v_wide) + eps)", "jnp.sqrt(v_wide + eps)",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    # rules
    Mutation("rules", "widen(p) - widen(p_0)", "widen(p_0) - widen(p)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules", "widen(p) - jnp.asarray(t, wide_dtype(p))", "widen(p) + jnp.asarray(t, wide_dtype(p))",
             "test_rules.py::test_towards_a_tree"),
    Mutation("rules", "(1 - r / jnp.where(norm > 0, norm, 1))", "(r / jnp.where(norm > 0, norm, 1) - 1)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules", "jnp.sqrt(jnp.sum(jnp.square(jnp.abs(widen(p))), axis, keepdims=True))",
             "jnp.sum(jnp.abs(widen(p)), axis, keepdims=True)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules", "in (fraction, p - 1)", "in (fraction, p)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules", "jnp.minimum(jnp.abs(z) ** exponent, to_zero)",
             "jnp.maximum(jnp.abs(z) ** exponent, to_zero)",
             "test_rules.py::test_lp_1_is_the_soft_threshold"),
    Mutation("rules", "widen(theta) + widen(delta)", "widen(theta) - widen(delta)",
             "test_rules.py::test_lp_1_is_the_soft_threshold"),
    Mutation("rules", ".real <= 0", ".real >= 0",
             "test_rules.py::test_cautious_looks_at_the_update_and_not_at_the_gradient"),
    Mutation("rules", "jnp.where((direction * widen(r)).real <= 0", "jnp.where((direction * widen(r)).real < 0",
             "test_rules.py::test_a_weight_without_a_gradient_decays"),
    Mutation("rules", "jnp.sign(widen(delta)).conj()", "jnp.sign(widen(delta))",
             "test_rules.py::test_complex_weights"),
    Mutation("rules", "jnp.sign(widen(delta)).conj()", "widen(delta).conj()",
             "test_rules.py::test_cautious_never_decays_against_the_update_and_decays_on_ties"),
    # rounding
    Mutation("rounding", "bits + 0x8000", "bits + 0x4000",
             "test_rounding.py::test_two_halves_are_the_float32_weight_bit_for_bit"),
    Mutation("rounding", "high + low.astype(jnp.uint32)", "high - low.astype(jnp.uint32)",
             "test_rounding.py::test_two_halves_are_the_float32_weight_bit_for_bit"),
    Mutation("rounding", "bits + dither.astype(jnp.uint32)", "bits - dither.astype(jnp.uint32)",
             "test_rounding.py::test_chance_rounds_without_bias_over_all_dithers"),
    Mutation("rounding", "fold_in(key, number)", "fold_in(key, 0)",
             "test_rounding.py::test_dither_differs_by_leaf_and_step_and_comes_back_with_the_seed"),
    Mutation("rounding", "chosen.astype(jnp.float32) - p.astype(jnp.float32)",
             "p.astype(jnp.float32) - chosen.astype(jnp.float32)",
             "test_rounding.py::test_residual_decays_where_plain_bfloat16_does_not"),
    Mutation("rounding", "(size == 0) & (low < 0)", "(size == 0) & (low > 0)",
             "test_nonfinite.py::test_a_half_left_by_another_weight_makes_no_nan_of_zero"),
    Mutation("rounding", "jnp.where(_bits(chosen) == _bits(p), -0.0, difference)", "difference",
             "test_rounding.py::test_a_parameter_changed_from_outside_keeps_its_new_value"),
    # transforms
    Mutation("transforms", "_add(updates, -c, strengths, pull)", "_add(updates, c, strengths, pull)",
             "test_laws.py::test_decay_is_the_formula_in_float64"),
    Mutation("transforms", "_add(updates, value_at(common, state.count), m, params)",
             "_add(updates, -value_at(common, state.count), m, params)",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[adam-constant]"),
    Mutation("transforms", "jnp.asarray(fraction(state.count),", "jnp.asarray(fraction(state.count + 1),",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgdw-cosine]"),
    Mutation("transforms", "lambda m: factor * m)", "lambda m: factor * m * m)",
             "test_laws.py::test_a_tree_of_strengths_is_one_number_for_each_leaf"),
    Mutation("transforms", "gradients=updates, observe", "gradients=step, observe",
             "test_decouple.py::test_rules_see_the_final_step_and_the_raw_gradients_of_what_decays"),
    Mutation("transforms", "held = weights(state.rounding, params)", "held = params",
             "test_rounding.py::test_a_whole_optimiser_is_the_float32_one_bit_for_bit"),
    # aliases
    Mutation("aliases", "add_decayed_weights(l2, mask), step, optax.scale(-1)",
             "step, add_decayed_weights(l2, mask), optax.scale(-1)",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgd-constant]"),
    Mutation("aliases", "add_decayed_weights(l2, mask), step, _scale(learning_rate)",
             "step, add_decayed_weights(l2, mask), _scale(learning_rate)",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[adam-constant]"),
    Mutation("aliases", "steps = steps_of(first_cycle_epochs, batch_size, dataset_size)",
             "steps = steps_of(first_cycle_epochs, dataset_size, batch_size)",
             "test_aliases.py::test_restarts_are_the_papers_algorithm_with_the_decay_of_each_cycle"),
    Mutation("aliases", "optax.chain(step, optax.scale(-1))", "optax.chain(step, optax.scale(1))",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgdw-constant]"),
    # theory
    Mutation("theory", "math.log1p(-fraction)", "math.log1p(fraction)",
             "test_theory.py::test_timescale_and_half_life_invert_the_strengths"),
    Mutation("theory", "return 1 / fraction if fraction", "return 2 / fraction if fraction",
             "test_theory.py::test_timescale_and_half_life_invert_the_strengths"),
    Mutation("theory", "(1 - momentum) / (1 + momentum)) ** 0.5", "(1 + momentum) / (1 - momentum)) ** 0.5",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory", "b1**2 * (1 - b2) / (1 + b2)", "b1 * (1 - b2) / (1 + b2)",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory", "(size / (2 * fraction)) ** 0.5", "(size / fraction) ** 0.5",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory", "/ (2 * fraction) ** 0.25", "/ (2 * fraction) ** 0.5",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory", "learning_rate * size**0.5 /", "learning_rate * size /",
             "test_theory.py::test_lion_settles_where_the_formulas_say"),
    # recorder
    Mutation("recorder", "link.fraction * m * widen(pull) if m", "link.fraction * widen(pull) if m",
             "test_recorder.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("recorder", "jnp.maximum(sums.step - along**2, 0)", "jnp.maximum(sums.step - along, 0)",
             "test_recorder.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("recorder", "growth=along / jnp.where", "growth=-along / jnp.where",
             "test_recorder.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("recorder", "jnp.atan2(across, weights + along)", "jnp.atan2(across, weights)",
             "test_recorder.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("recorder", "ratio=decay / jnp.where(decay > 0, updates, 1)",
             "ratio=updates / jnp.where(decay > 0, decay, 1)",
             "test_recorder.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("recorder", "jnp.log1p(-c)", "jnp.log1p(c)",
             "test_recorder.py::test_the_log_shrinkage_of_large_fractions"),
    Mutation("recorder", "(new - total) - wanted", "wanted - (new - total)",
             "test_recorder.py::test_the_log_shrinkage_counts_fractions_that_float32_would_lose"),
    Mutation("recorder", "same & decayed, decayed]", "same, decayed]",
             "test_recorder.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("recorder", "leaf.c + link.fraction * m", "leaf.c + link.fraction",
             "test_recorder.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("recorder", "jnp.min(shrunk, initial=0)", "jnp.sum(shrunk)",
             "test_recorder.py::test_the_total_is_the_record_of_all_weights_as_one_vector"),
    # equivalents
    Mutation("equivalents", "timescale(c) * normalized(1.0, **run, epochs=1) ** 2",
             "timescale(c) * normalized(1.0, **run, epochs=1)",
             "test_equivalents.py::test_scales_of_time_and_budget"),
    Mutation("equivalents", "c / unit", "c * unit", "test_equivalents.py::test_scales_of_time_and_budget"),
    Mutation("equivalents", "unit**-2", "unit**-1", "test_equivalents.py::test_scales_of_time_and_budget"),
    Mutation("equivalents", "abs(1 - c) ** steps", "abs(1 + c) ** steps",
             "test_equivalents.py::test_scales_of_time_and_budget"),
]  # fmt: skip


def occurrences(mutation: Mutation) -> int:
    """How often the old text stands in its module; once, or the table is out of date."""
    return _module(ROOT, mutation).read_text().count(mutation.old)


def _module(root: Path, mutation: Mutation) -> Path:
    return root / "decoupled_wd" / f"{mutation.module}.py"


def _run(tests: list[str], mutation: Mutation | None = None) -> subprocess.CompletedProcess[str]:
    """pytest's result in a copy that lives as long as the run."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("decoupled_wd", "tests"):
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(ROOT / part, root / part, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", root)
        if mutation is not None:
            text = _module(root, mutation).read_text()
            _module(root, mutation).write_text(text.replace(mutation.old, mutation.new))
        return _pytest(root, [f"tests/{test}" for test in tests])


def _pytest(root: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    probe = "import decoupled_wd, pytest, sys; assert decoupled_wd.__file__.startswith(sys.argv.pop(1)); "
    command = [sys.executable, "-c", probe + "sys.exit(pytest.main(sys.argv[1:]))", str(root)]
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--no-header"]
    environment = os.environ | {
        "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    return subprocess.run(
        [*command, *options, *tests],
        cwd=root, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


def _verdict(number: int) -> bool:
    mutation = MUTATIONS[number]
    code = _run([mutation.tests], mutation).returncode
    word = {FAILED: "killed", 0: "SURVIVED"}.get(code, f"BROKEN, pytest's code {code}")
    print(f"{number:3} {word:8} {mutation.module}: {mutation.old}  ->  {mutation.new}", flush=True)
    return code == FAILED


def main(numbers: list[int]) -> int:
    """0 if the tests pass as the code is, and fail with each mutation."""
    stale = [n for n in numbers if occurrences(MUTATIONS[n]) != 1]
    if stale:
        print(f"not found exactly once: {stale}; write the table anew where the code has changed")
        return 1
    unmutated = _run(sorted({MUTATIONS[n].tests for n in numbers}))
    if unmutated.returncode != 0:
        print(f"the tests do not pass as the code is:\n{unmutated.stdout}{unmutated.stderr}")
        return 1
    with ThreadPoolExecutor(WORKERS) as pool:
        verdicts = list(pool.map(_verdict, numbers))
    print(f"{sum(verdicts)} of {len(verdicts)} killed")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main([int(n) for n in sys.argv[1:]] or list(range(len(MUTATIONS)))))
