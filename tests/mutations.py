"""Does a test notice? Each formula of the core made wrong in one place, and the test that must then fail.

``python tests/mutations.py`` runs them all, each in a copy of the package and the tests in a temporary directory,
and exits with 1 if one survives; ``python tests/mutations.py 3 17`` runs two of them, and ``python
tests/mutations.py rounding`` those of a folder or a module. First the copy as it is must
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
    # adopting a state
    Mutation("adoption", "found, trace = take(link.key), None", "found, trace = (None if link.path else take(link.key)), None",
             "test_adopt.py::test_without_decay_training_goes_on_bit_for_bit"),
    Mutation("adoption", '{"count": jnp.array(step)} if', '{"count": jnp.array(0 * step)} if',
             "test_adopt.py::test_all_counts_are_those_of_the_restored_step"),
    Mutation("adoption", "jnp.array(step)", "step", "test_adopt.py::test_an_adopted_state_can_be_donated"),
    Mutation("adoption", "len({*known.values()}) > 1", "False",
             "test_adopt.py::test_what_cannot_be_placed_is_refused_by_its_name"),
    Mutation("adoption", "jnp.shape(leaf) != jnp.shape(like)", "jnp.ndim(leaf) != jnp.ndim(like)",
             "test_adopt.py::test_what_cannot_be_placed_is_refused_by_its_name"),
    Mutation("adoption", 'if "hyperparams" not in link.fields', "if False",
             "test_adopt.py::test_what_cannot_be_placed_is_refused_by_its_name"),
    Mutation("adoption", 'return type(self.node).__name__ if "" not in names else "", names', 'return "", names',
             "test_adopt.py::test_what_cannot_be_placed_is_refused_by_its_name"),
    Mutation("adoption", " and not np.can_cast(leaf.dtype, like.dtype)", " and False",
             "test_adopt.py::test_moments_in_bfloat16_become_float32_without_loss_and_not_the_other_way"),
    Mutation("adoption", "whole or bool(_structure(node) == weights)", "whole",
             "test_adopt.py::test_params_are_any_tree"),
    Mutation("adoption", "fields if isinstance(node, DecoupleState) else inside", "inside",
             "test_adopt.py::test_an_optimiser_of_the_user_s_whose_state_is_no_named_tuple_keeps_it"),
    Mutation("_traces", "(rate * widen(t))", "widen(t)",
             "test_adopt.py::test_under_a_schedule_the_buffer_holds_the_learning_rate_of_the_next_step"),
    Mutation("_traces", "probed(2.0**-20), probed(2.0**-24)", "probed(2.0**-20), probed(2.0**-20)",
             "test_adopt.py::test_a_learning_rate_that_something_in_front_changes_is_not_guessed"),
    Mutation("_traces", "0 < low == high", "low == high",
             "test_adopt.py::test_what_cannot_be_placed_is_refused_by_its_name"),
    # coupling
    Mutation("coupling", "alpha**self.p * (lr / alpha) ** self.s", "alpha**self.s * (lr / alpha) ** self.p",
             "test_coupling.py::test_fraction_is_the_law"),
    Mutation("coupling", "(lr / alpha)", "(lr * alpha)", "test_coupling.py::test_fraction_is_the_law"),
    Mutation("coupling", 'as_coupling("from_", from_).p - as_coupling("to", to).p',
             'as_coupling("to", to).p - as_coupling("from_", from_).p',
             "test_coupling.py::test_conversions_users_get_wrong"),
    Mutation("coupling", "PAPER = Coupling(p=0, s=1)", "PAPER = Coupling(p=0, s=0)",
             "test_coupling.py::test_the_peak_is_never_guessed"),
    Mutation("coupling", "LR = Coupling(p=1, s=1)", "LR = Coupling(p=1, s=0)",
             "test_coupling.py::test_the_peak_cancels_where_p_is_s"),
    Mutation("coupling", "CORRECTED = Coupling(p=1, s=2)", "CORRECTED = Coupling(p=1, s=3)",
             "diagnostics/test_equivalents.py::test_the_formula_of_a_row_is_what_its_coupling_does_away_from_the_peak"),
    Mutation("coupling", "SQUARED = Coupling(p=2, s=2)", "SQUARED = Coupling(p=1, s=2)",
             "test_coupling.py::test_a_row_takes_what_its_source_takes"),
    Mutation("coupling", '"flashoptim.decouple_lr": PAPER', '"flashoptim.decouple_lr": LR',
             "test_coupling.py::test_a_row_takes_what_its_source_takes"),
    Mutation("coupling", '"emerging_optimizers.independent": CONSTANT', '"emerging_optimizers.independent": LR',
             "test_coupling.py::test_a_row_takes_what_its_source_takes"),
    Mutation("coupling", "1.0 if learning_rate is None or callable(learning_rate) else learning_rate", "1.0",
             "test_coupling.py::test_a_constant_learning_rate_has_multiplier_one"),
    Mutation("coupling", "isinstance(learning_rate, jax.Array) and self.p != self.s", "False",
             "test_alpha.py::test_injected_without_a_peak_is_right_or_an_error"),
    Mutation("coupling", "(1 + 1e-5)", "1e9",
             "test_alpha.py::test_a_peak_below_its_schedule_is_met_where_numbers_are_known"),
    Mutation("coupling", "shared = min(self.p, self.s)", "shared = max(self.p, self.s)",
             "diagnostics/test_equivalents.py::test_the_formula_of_a_row_is_what_its_coupling_does_away_from_the_peak"),
    # numbers at the door
    Mutation("_base/checks", "not 0 <= float(number) <= _largest()", "False",
             "test_alpha.py::test_a_schedule_that_leaves_its_range_is_met_where_numbers_are_known"),
    Mutation("_base/checks", "precision.type(value) < 1", "value < 1",
             "test_preconditioners.py::test_an_averaging_rate_that_float32_rounds_to_one_is_refused"),
    # strengths
    Mutation("strengths", "(batch_size / (dataset_size * epochs)) ** 0.5",
             "batch_size / (dataset_size * epochs)",
             "test_strengths.py::test_normalized_gives_the_papers_check_values"),
    Mutation("strengths", "float(cycle_factor) ** (-0.5 * index)", "float(cycle_factor) ** (-1.0 * index)",
             "test_strengths.py::test_normalized_per_cycle_changes_at_each_restart"),
    Mutation("strengths", "learning_rate * penalty / dataset_size", "penalty / dataset_size",
             "test_paper.py::test_textbook_l2_in_the_cost_is_sgd_with_decay_on_the_weights_alone"),
    Mutation("strengths", "_in_unit(1 / steps,", "_in_unit(2 / steps,",
             "test_strengths.py::test_timescale_and_half_life"),
    Mutation("strengths", "-math.expm1(-math.log(2) / steps)", "math.log(2) / steps",
             "test_strengths.py::test_timescale_and_half_life"),
    Mutation("strengths", "(batch_ratio / (dataset_ratio * epochs_ratio)) ** 0.5",
             "batch_ratio / (dataset_ratio * epochs_ratio)",
             "test_strengths.py::test_the_two_transfers_keep_what_they_name"),
    Mutation("strengths", "weight_decay, batch_ratio / dataset_ratio,",
             "weight_decay, dataset_ratio / batch_ratio,",
             "test_strengths.py::test_the_two_transfers_keep_what_they_name"),
    Mutation("strengths", "amount / learning_rate**coupling.p", "amount * learning_rate**coupling.p",
             "test_strengths.py::test_their_unit_is_the_couplings"),
    Mutation("strengths", "omega / (start + (count + 1.0))", "omega / (start + count)",
             "test_strengths.py::test_log_time_is_what_its_authors_write"),
    Mutation("strengths", 'check_ordered("omega", omega, "start + 1", start + 1)', "pass",
             "test_bad_input.py::test_wrong_call"),
    # schedules
    Mutation("schedules", "(0.5 + 0.5 * jnp.cos(", "(0.5 - 0.5 * jnp.cos(",
             "test_schedules.py::test_warm_restarts_by_counting"),
    Mutation("schedules", "floor + (peak - floor) *", "floor + peak *",
             "test_schedules.py::test_the_floor_is_where_a_cycle_ends"),
    Mutation("schedules", 'side="right"', 'side="left"',
             "test_schedules.py::test_restarts_at_100_300_700_1500"),
    Mutation("schedules", "np.rint(first_cycle_steps", "np.floor(first_cycle_steps",
             "test_schedules.py::test_growth_that_is_not_whole_is_rounded_to_steps"),
    Mutation("schedules", "np.rint([float(first_cycle_steps)])", "np.floor([float(first_cycle_steps)])",
             "test_schedules.py::test_a_length_that_is_not_whole_is_rounded_for_equal_cycles_too"),
    Mutation("schedules", "min(float(cycle_factor), _LAST_STEP + 1.0)", "float(cycle_factor)",
             "test_schedules.py::test_after_a_huge_factor_there_is_no_third_cycle"),
    Mutation("schedules", "if cycle_factor != 1 and _cycles(first_cycle_steps, cycle_factor) > _MOST_CYCLES:", "if False:",
             "test_schedules.py::test_the_slowest_growth_that_is_taken_is_a_small_table"),
    # preconditioners
    Mutation("preconditioners", "momentum * widen(m) + lr * widen(g)", "lr * (momentum * widen(m) + widen(g))",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgdw-cosine]"),
    Mutation("preconditioners", "(1 - b1) * g + b1 * widen(m)", "b1 * g + (1 - b1) * widen(m)",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    Mutation("preconditioners", "(1 - b2) * (g * g.conj()).real", "(1 - b2) * jnp.abs(g)",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    Mutation("preconditioners", "(g * g.conj()).real", "(g * g).real",
             "test_preconditioners.py::test_complex_gradients_have_a_real_second_moment"),
    Mutation("preconditioners", "(root(v_hat) + eps)", "root(v_hat + eps)",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    Mutation("preconditioners", "1 - b1**t, 1 - b2**t", "1 - b2**t, 1 - b1**t",
             "test_preconditioners.py::test_adam_is_optax_adam_bit_for_bit"),
    # AdaBound
    Mutation("preconditioners", "jnp.sqrt(1 - b2**t)", "(1 - b2**t)",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    Mutation("preconditioners", "f * (1 + 1 / (gamma * t))", "f * (1 + 1 / (gamma * t + 1))",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    Mutation("preconditioners", "f * (gamma * t / (gamma * t + 1))", "f * (1 / (gamma * t + 1))",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    Mutation("preconditioners", "(root(v_wide) + eps)", "root(v_wide + eps)",
             "test_adabound.py::test_it_is_the_authors_code_in_float64"),
    # rules
    Mutation("rules/_targets", "widen(p) - widen(p_0)", "widen(p_0) - widen(p)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules/_targets", "widen(p) - jnp.asarray(t, wide_dtype(p))", "widen(p) + jnp.asarray(t, wide_dtype(p))",
             "test_rules.py::test_towards_a_tree"),
    Mutation("rules/_norms", "return 1 - r / jnp.where(moves, norm, 1)", "return r / jnp.where(moves, norm, 1) - 1",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules/_norms", "root(jnp.sum(jnp.square(jnp.abs(widen(p))), axis, keepdims=True))",
             "jnp.sum(jnp.abs(widen(p)), axis, keepdims=True)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules/_norms", "r / jnp.where(moves, norm, 1)", "r / norm",
             "test_rules.py::test_a_norm_that_is_zero_stays_without_nan"),
    Mutation("rules/_norms", "jnp.where(moves, norm_0, 1) if radius", "norm_0 if radius",
             "test_meta_gradients.py::test_with_respect_to_lambda_alpha_and_the_start"),
    Mutation("rules/_norms", "jnp.maximum(excess, 0) if one_sided", "excess if one_sided",
             "test_rules.py::test_one_sided_only_caps"),
    Mutation("rules/_norms", "_excess(norm_of(z, axis)", "_excess(norm_of(p, axis)",
             "test_rules.py::test_full_decay_onto_a_norm_lands_on_it"),
    Mutation("rules/_norms", "else excess) * z", "else excess) * p",
             "test_rules.py::test_full_decay_onto_a_norm_lands_on_it"),
    Mutation("rules/_norms", "axis = tuple(range(p.ndim))[axis]", "axis = tuple(range(p.ndim))",
             "test_rules.py::test_a_norm_for_each_slice"),
    Mutation("rules/_norms", "bool((norm > 0).all())", "bool((norm > 0).any())",
             "test_rules.py::test_a_norm_of_zero_at_init_is_refused_by_name"),
    Mutation("rules/_norms", "jnp.where(norm != 0, norm_0, 0) / jnp.where(norm != 0, norm, 1)",
             "norm_0 / jnp.where(norm != 0, norm, 1) ** 2",
             "test_sphere.py::test_it_is_levanters_formula"),
    Mutation("rules/_norms", "jnp.where(norm != 0, norm_0, 0) / jnp.where(norm != 0, norm, 1)", "norm_0 / norm",
             "test_sphere.py::test_without_a_direction_nothing_moves"),
    Mutation("rules/_norms", "moves = norm != 0", "moves = norm > 0",
             "test_nonfinite.py::test_the_harm_stays_where_the_gradient_was_broken"),
    Mutation("sphere", "v if held else widen(u)", "v if held else v",
             "test_sphere.py::test_what_is_not_held_takes_the_plain_step"),
    Mutation("sphere", "slice(int(stacked_axes), None)", "slice(0, None)",
             "test_sphere.py::test_every_layer_of_a_stack_is_trained_as_if_it_stood_alone"),
    Mutation("sphere", "held = matrices(stacked_axes=stacked_axes)", "held = matrices()",
             "test_sphere.py::test_every_layer_of_a_stack_is_trained_as_if_it_stood_alone"),
    Mutation("sphere", "coupling=CONSTANT", 'coupling="optax"',
             "test_sphere.py::test_it_is_levanters_formula"),
    Mutation("rules/_penalties", "in (fraction, p - 1)", "in (fraction, p)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules/_penalties", "cut = c * power >= size", "cut = c * power < size",
             "test_rules.py::test_lp_1_is_the_soft_threshold"),
    Mutation("rules/_penalties", "jnp.where(cut, z / jnp.where(cut, c, 1), gradient)", "gradient",
             "test_rules.py::test_lp_never_crosses_zero"),
    Mutation("rules/_penalties", "z / jnp.where(cut, c, 1)", "z / c",
             "test_meta_gradients.py::test_with_respect_to_lambda_alpha_and_the_start"),
    Mutation("rules/_penalties", "jnp.where(z == 0, limits.tiny, jnp.abs(z))", "jnp.abs(z)",
             "test_meta_gradients.py::test_with_respect_to_lambda_alpha_and_the_start"),
    Mutation("rules/_penalties", "jnp.minimum(size**exponent, limits.max)", "size**exponent",
             "test_rules.py::test_a_strength_scheduled_to_zero_leaves_a_weight_of_zero_where_it_is"),
    Mutation("rules/_penalties", "z / size if jnp.iscomplexobj(z) else jnp.sign(z)", "jnp.sign(z.real)",
             "test_rules.py::test_complex_weights"),
    Mutation("rules/_rule", "widen(theta) + widen(delta)", "widen(theta) - widen(delta)",
             "test_rules.py::test_lp_1_is_the_soft_threshold"),
    Mutation("rules/_wrappers", ".real <= 0", ".real >= 0",
             "test_rules.py::test_cautious_looks_at_the_update_and_not_at_the_gradient"),
    Mutation("rules/_wrappers", "jnp.where((direction * widen(r)).real <= 0", "jnp.where((direction * widen(r)).real < 0",
             "test_rules.py::test_a_weight_without_a_gradient_decays"),
    Mutation("rules/_wrappers", "jnp.sign(widen(delta)).conj()", "jnp.sign(widen(delta))",
             "test_rules.py::test_complex_weights"),
    Mutation("rules/_wrappers", "jnp.sign(widen(delta)).conj()", "widen(delta).conj()",
             "test_rules.py::test_cautious_never_decays_against_the_update_and_decays_on_ties"),
    Mutation("rules/_penalties", "jnp.maximum(jnp.abs(wide), limit)", "jnp.minimum(jnp.abs(wide), limit)",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules/_penalties", "jnp.maximum(jnp.abs(wide), limit)", "jnp.maximum(jnp.abs(wide.real), limit)",
             "test_rules.py::test_complex_weights"),
    Mutation("rules/_wrappers", "jnp.asarray(g) != 0, within", "jnp.asarray(g) > 0, within",
             "test_rules.py::test_the_pull_is_its_formula_in_float64"),
    Mutation("rules/_wrappers", "for a in range(ndim) if a not in rows", "for a in range(ndim) if a in rows",
             "test_rules.py::test_the_axes_of_rows"),
    Mutation("rules/_wrappers", "False if g is None", "True if g is None",
             "test_rules.py::test_a_row_without_any_gradient_does_not_decay"),
    # rounding
    Mutation("rounding/_halves", "bits + 0x8000", "bits + 0x4000",
             "test_rounding.py::test_two_halves_are_the_float32_weight_bit_for_bit"),
    Mutation("rounding/_halves", "high + low.astype(jnp.uint32)", "high - low.astype(jnp.uint32)",
             "test_rounding.py::test_two_halves_are_the_float32_weight_bit_for_bit"),
    Mutation("_base/bits", "bits + dither.astype(jnp.uint32)", "bits - dither.astype(jnp.uint32)",
             "test_rounding.py::test_chance_rounds_without_bias_over_all_dithers"),
    Mutation("rounding/_stochastic", "fold_in(key, number)", "fold_in(key, 0)",
             "test_rounding.py::test_dither_differs_by_leaf_and_step_and_comes_back_with_the_seed"),
    Mutation("rounding/_halves", "chosen.astype(jnp.float32) - p.astype(jnp.float32)",
             "p.astype(jnp.float32) - chosen.astype(jnp.float32)",
             "test_rounding.py::test_residual_decays_where_plain_bfloat16_does_not"),
    Mutation("rounding/_halves", "(size == 0) & (low < 0)", "(size == 0) & (low > 0)",
             "test_nonfinite.py::test_a_half_left_by_another_weight_makes_no_nan_of_zero"),
    Mutation("rounding/_halves", "jnp.where(bits_of(chosen) == bits_of(p), -0.0, exact)", "exact",
             "test_rounding.py::test_a_parameter_changed_from_outside_keeps_its_new_value"),
    Mutation("_base/bits", "straight = tangents[0].astype", "straight = 0 * tangents[0].astype",
             "test_meta_gradients.py::test_the_straight_derivative_is_that_of_the_sum"),
    Mutation("rounding/_residual", "@straight_through\ndef _written", "def _written",
             "test_meta_gradients.py::test_the_straight_derivative_is_that_of_the_sum"),
    Mutation("rounding/_halves", "@straight_through\ndef joined", "def joined",
             "test_meta_gradients.py::test_the_straight_derivative_is_that_of_the_sum"),
    Mutation("rounding/_stochastic", "@straight_through\ndef _dithered", "def _dithered",
             "test_meta_gradients.py::test_a_weight_that_stays_has_the_derivative_of_one_that_moves"),
    Mutation("rounding/_links", "jax.tree.leaves(tree, is_leaf=is_rounding_state)", "[tree]",
             "test_rounding.py::test_weights_takes_the_whole_state_whatever_is_around_it"),
    Mutation("rounding/_weights", "held_weights(unbox(state), unbox(params))", "held_weights(state, params)",
             "test_rounding.py::test_weights_of_a_flax_optimizer"),
    Mutation("rounding/_halves", "bits + dither.astype(jnp.uint32)", "bits",
             "test_rounding_byte.py::test_the_mean_over_all_dithers_is_the_float32_weight_exactly"),
    Mutation("rounding/_halves", "np.uint32(0xFFFFFF00)", "np.uint32(0xFFFF0000)",
             "test_rounding_byte.py::test_the_mean_over_all_dithers_is_the_float32_weight_exactly"),
    Mutation("rounding/_halves", "byte.astype(jnp.uint16) << 8", "byte.astype(jnp.uint16) << 7",
             "test_rounding_byte.py::test_a_weight_and_its_byte_are_24_bits_of_the_float32"),
    Mutation("rounding/_halves", "jnp.full(w.shape, 0x80,", "jnp.full(w.shape, 0,",
             "test_rounding_byte.py::test_without_a_dither_it_is_the_nearest"),
    Mutation("rounding/_byte", "cut_with(w, dither)", "cut_with(w, jnp.full(w.shape, 0x80))",
             "test_rounding_byte.py::test_a_small_decay_is_that_of_float32_within_its_sampling_error"),
    Mutation("rounding/_byte", "fold_in(key, number)", "fold_in(key, 0)",
             "test_rounding_byte.py::test_the_dither_differs_by_leaf_and_step_and_comes_back_with_the_seed"),
    Mutation("rounding/_byte", "jax.random.key_data(following))", "state.key)",
             "test_rounding_byte.py::test_the_dither_differs_by_leaf_and_step_and_comes_back_with_the_seed"),
    Mutation("rounding/_byte", "@straight_through\ndef _written", "def _written",
             "test_meta_gradients.py::test_a_rounding_link_passes_derivatives_straight_through"),
    Mutation("rounding/_weights", "halved(w, r.dtype)[1]", "r",
             "test_rounding_float32.py::test_the_weights_are_the_float32_ones_bit_for_bit_and_the_rest_is_init"),
    Mutation("rounding/_weights", "structure.unflatten(p if is_absent(r) else _nearest(p, dtype)",
             "structure.unflatten(_nearest(p, dtype)",
             "test_rounding_float32.py::test_leaves_without_a_residual_stay_in_float32"),
    # moments
    Mutation("preconditioners", "moment if is_bfloat16(kept) else moment.astype", "moment.astype",
             "test_preconditioners.py::test_moments_in_bfloat16_follow_a_falling_gradient_within_their_sampling_error"),
    Mutation("preconditioners", "*_stored((m,), (state.momentum,), t)",
             "jax.tree.map(lambda x, k: x.astype(k.dtype), m, state.momentum)",
             "test_preconditioners.py::test_momentum_in_bfloat16_follows_a_falling_gradient_within_its_sampling_error"),
    Mutation("preconditioners", "(bits >> 16, bits & 0xFFFF)", "(bits >> 16, bits >> 16)",
             "test_preconditioners.py::test_the_dither_of_moments_differs_by_moment_leaf_and_step_and_comes_back"),
    Mutation("preconditioners", "fold_in(key, number)", "fold_in(key, 0)",
             "test_preconditioners.py::test_the_dither_of_moments_differs_by_moment_leaf_and_step_and_comes_back"),
    Mutation("preconditioners", "jax.random.fold_in(jax.random.key(_SEED), t)", "jax.random.key(_SEED)",
             "test_preconditioners.py::test_the_dither_of_moments_differs_by_moment_leaf_and_step_and_comes_back"),
    Mutation("_base/bits", "@straight_through\ndef round_with", "def round_with",
             "test_preconditioners.py::test_derivatives_pass_straight_through_moments_in_bfloat16"),
    # transforms
    Mutation("transforms", "_add(updates, -c, strengths, pull)", "_add(updates, c, strengths, pull)",
             "test_laws.py::test_decay_is_the_formula_in_float64"),
    Mutation("transforms", 'scheduled("weight_decay", common, state.count), m, params)',
             '-scheduled("weight_decay", common, state.count), m, params)',
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[adam-constant]"),
    Mutation("transforms", "rates(state.count)", "rates(state.count + 1)",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgdw-cosine]"),
    Mutation("transforms", "lambda m: factor * m)", "lambda m: factor * m * m)",
             "test_laws.py::test_a_tree_of_strengths_is_one_number_for_each_leaf"),
    Mutation("transforms", "gradients=updates)", "gradients=step)",
             "test_decouple.py::test_rules_see_the_final_step_and_the_raw_gradients_of_what_decays"),
    Mutation("transforms", "held = held_weights(state.rounding, params)", "held = params",
             "test_rounding.py::test_a_whole_optimiser_is_the_float32_one_bit_for_bit"),
    Mutation("transforms", "if _holds(lambda node: isinstance(node, DecayWeightsState), state):", "if False:",
             "test_alpha.py::test_a_decay_inside_a_decay_is_refused"),
    Mutation("transforms", "if _holds(_is_scheduled, state) and not told:", "if False:",
             "test_alpha.py::test_a_schedule_that_decouple_was_not_told_of_is_said"),
    # leaves of a tree
    Mutation("_base/leaves", "tangents[0] / (2 * root(safe)), 0)", "tangents[0] / root(safe), 0)",
             "test_meta_gradients.py::test_a_root_is_flat_at_zero_and_a_root_elsewhere"),
    Mutation("_base/leaves", "tangents[0] / (2 * root(safe)), 0)", "tangents[0] / (2 * root(safe)), jnp.inf)",
             "test_meta_gradients.py::test_a_root_is_flat_at_zero_and_a_root_elsewhere"),
    Mutation("_base/leaves", "jnp.dtype(jnp.float32) if narrow", "jnp.dtype(jnp.bfloat16) if narrow",
             "test_preconditioners.py::test_float8_is_computed_in_float32"),
    Mutation("_base/leaves", 'leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)', "leaf",
             "test_preconditioners.py::test_python_numbers_are_weights_as_in_optax"),
    Mutation("_base/updates", " and jnp.shape(u) == jnp.shape(twin)", "",
             "test_trees.py::test_an_update_has_the_shape_and_kind_of_its_weight"),
    Mutation("_base/updates", "bool(dtype_of(u) == jax.dtypes.float0)", "False",
             "test_trees.py::test_an_update_has_the_shape_and_kind_of_its_weight"),
    Mutation("_base/updates", "kind = jnp.floating if jnp.issubdtype(like, jnp.floating) else jnp.inexact",
             "kind = jnp.inexact",
             "test_trees.py::test_an_update_has_the_shape_and_kind_of_its_weight"),
    Mutation("_base/paths", "siblings[path[:-1]] == 1", "True", "test_trees.py::test_keys_of_any_kind_have_one_form"),
    Mutation("_base/paths", "unbox(_contents(n)) if", "_contents(n) if",
             "test_trees.py::test_boxes_with_sharding_metadata"),
    # slips
    Mutation("_slips", "if c < STRONG:", "if c <= STRONG:",
             "test_slips.py::test_what_removes_a_twentieth_of_a_weight_warns_at_the_place_that_calls"),
    Mutation("_slips", "float(strength) * unit**coupling.p", "float(strength)",
             "test_slips.py::test_nothing_else_warns"),
    Mutation("_slips", " or isinstance(weight_decay, jax.Array)", "",
             "test_slips.py::test_nothing_else_warns"),
    Mutation("_slips", "return depth\n", "return 2\n",
             "test_slips.py::test_what_removes_a_twentieth_of_a_weight_warns_at_the_place_that_calls"),
    # the public names
    Mutation("__init__", "raise AttributeError(str(error), name=name, obj=__name__) from error", "raise",
             "test_public.py::test_help_works_without_the_extra"),
    Mutation("study/__init__", "if error.name not in _EXTRA:", "if False:",
             "test_public.py::test_a_missing_extra_is_told_from_a_missing_module"),
    # tables
    Mutation("diagnostics/_tables", "{html.escape(cell)}", "{cell}",
             "diagnostics/test_preflight.py::test_text_and_html_show_the_rows"),
    # masks
    Mutation("masks/_numbers", "return min(a, b)", "return a * b",
             "test_masks.py::test_masks_combine_leaf_by_leaf"),
    Mutation("masks/_numbers", "return max(a, b)", "return a",
             "test_masks.py::test_masks_combine_leaf_by_leaf"),
    Mutation("masks/_mask", "if a.multiplier > b.multiplier else", "if a.multiplier < b.multiplier else",
             "test_masks.py::test_a_doubt_counts_where_it_decides_the_multiplier"),
    Mutation("masks/_mask", "Match(1 - match.multiplier,", "Match(match.multiplier,",
             "test_masks.py::test_the_complement_and_the_product"),
    Mutation("masks/_policies", "doubt * is_unknown(path, axes)", '""',
             "test_masks.py::test_a_kind_that_is_not_there_warns_where_a_vector_would_decay"),
    Mutation("masks/_kinds", 'return first_kind(("bias", "norm"), path, len(shape))', "return None",
             "test_masks.py::test_biases_of_several_axes_are_no_matrices"),
    Mutation("masks/_kinds", "return axes <= self.most_axes and", "return",
             "test_masks.py::test_a_weight_of_one_axis_is_a_norms"),
    # aliases
    Mutation("aliases", "add_decayed_weights(l2, mask), step, optax.scale(-1)",
             "step, add_decayed_weights(l2, mask), optax.scale(-1)",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgd-constant]"),
    Mutation("aliases", "add_decayed_weights(l2, mask), step, scale_by_rate(learning_rate)",
             "step, add_decayed_weights(l2, mask), scale_by_rate(learning_rate)",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[adam-constant]"),
    Mutation("aliases", "steps = steps_of(first_cycle_epochs, batch_size, dataset_size)",
             "steps = steps_of(first_cycle_epochs, dataset_size, batch_size)",
             "test_aliases.py::test_restarts_are_the_papers_algorithm_with_the_decay_of_each_cycle"),
    Mutation("aliases", "optax.chain(step, optax.scale(-1))", "optax.chain(step, optax.scale(1))",
             "test_aliases.py::test_alias_is_the_papers_algorithm_in_float64[sgdw-constant]"),
    # multipliers that move, and those by width
    Mutation("masks/_numbers", "0.0 if is_off(a) or is_off(b) else _joined(lambda x, y: x * y, a, b)",
             "_joined(lambda x, y: x + y, a, b)",
             "test_masks.py::test_multipliers_that_move_combine_as_their_values_do"),
    Mutation("masks/_numbers", "_joined(jnp.minimum, a, b)", "_joined(jnp.maximum, a, b)",
             "test_masks.py::test_multipliers_that_move_combine_as_their_values_do"),
    Mutation("masks/_numbers", "_joined(jnp.maximum, a, b)", "_joined(jnp.minimum, a, b)",
             "test_masks.py::test_multipliers_that_move_combine_as_their_values_do"),
    Mutation("masks/_mask", "if callable(mask) and not _is_tree_like(mask, tree.params):", "if callable(mask):",
             "test_masks_clients.py::test_a_tree_of_an_equinox_model_is_a_mask_though_it_can_be_called"),
    Mutation("masks/_widths", "(1 / len(ratios)) if ratios", "1.0 if ratios",
             "test_masks.py::test_multipliers_by_width_are_powers_of_the_ratio"),
    Mutation("masks/_widths", "n / n_0 for", "n_0 / n for",
             "test_masks.py::test_multipliers_by_width_are_powers_of_the_ratio"),
    Mutation("_resolution", 'scheduled("mask", multiplier, count) *', "multiplier(0) if callable(multiplier) else multiplier *",
             "test_groups.py::test_a_schedule_for_one_group_is_the_formula_in_float64"),
    Mutation("_resolution", '* scheduled("weight_decay", factor, count)', '* scheduled("weight_decay", factor, 0)',
             "test_groups.py::test_a_schedule_for_one_group_is_the_formula_in_float64"),
    Mutation("_resolution", "if is_off(multiplier) or is_off(factor):", "if False:",
             "test_groups.py::test_a_known_zero_leaves_a_leaf_alone_beside_a_schedule"),
    # theory
    Mutation("theory/_times", "math.log1p(-fraction)", "math.log1p(fraction)",
             "test_theory.py::test_timescale_and_half_life_invert_the_strengths"),
    Mutation("theory/_times", "return 1 / fraction if fraction", "return 2 / fraction if fraction",
             "test_theory.py::test_timescale_and_half_life_invert_the_strengths"),
    Mutation("theory/_equilibrium", "(1 - momentum) / (1 + momentum)) ** 0.5", "(1 + momentum) / (1 - momentum)) ** 0.5",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory/_equilibrium", "b1**2 * (1 - b2) / (1 + b2)", "b1 * (1 - b2) / (1 + b2)",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory/_equilibrium", "(size / (2 * fraction)) ** 0.5", "(size / fraction) ** 0.5",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory/_equilibrium", "/ (2 * fraction) ** 0.25", "/ (2 * fraction) ** 0.5",
             "test_theory.py::test_the_formulas_are_those_printed_for_the_lr_coupled_unit"),
    Mutation("theory/_equilibrium", "learning_rate * size**0.5 /", "learning_rate * size /",
             "test_theory.py::test_lion_settles_where_the_formulas_say"),
    Mutation("theory/_times", "0.0 if fraction >= 1 else", "0.0 if fraction > 1 else",
             "test_theory.py::test_no_decay_takes_for_ever_and_full_decay_no_time"),
    Mutation("theory/_checks", "(np.min(value), np.max(value)) if", "(np.max(value),) if",
             "test_theory.py::test_bad_arguments"),
    Mutation("theory/_checks", "if isinstance(value, jax.core.Tracer):", "if False:",
             "test_theory.py::test_arrays_and_traced_fractions"),
    Mutation("theory/_times", "np.append(after[1:], 0.0)", "after",
             "test_theory_runs.py::test_influence_is_a_product_over_later_steps"),
    Mutation("theory/_times", "later += after[0]", "later = after[0]",
             "test_theory_runs.py::test_influence_is_a_product_over_later_steps"),
    Mutation("theory/_times", "np.log(lr) + ", "",
             "test_theory_runs.py::test_influence_is_a_product_over_later_steps"),
    Mutation("theory/_times", "np.exp(logs - highest)", "np.exp(logs)",
             "test_theory_runs.py::test_ten_million_steps_and_shares_that_no_float_could_hold_unscaled"),
    Mutation("theory/_times", "np.cumsum(shares[::-1]), 0.5)) + 1", "np.cumsum(shares), 0.5)) + 1",
             "test_theory_runs.py::test_the_half_life_of_a_long_run_is_that_of_an_idle_weight"),
    Mutation("theory/_schedules", "(1 - c) ** 2, (lr", "(1 - c), (lr",
             "test_theory_runs.py::test_norms_are_a_loop_in_float64"),
    Mutation("theory/_schedules", "initial=squares[-1]", "initial=squares[0]",
             "test_theory_runs.py::test_norms_are_a_loop_in_float64"),
    Mutation("theory/_schedules", "start + jnp.arange(length)", "jnp.arange(length)",
             "test_theory_runs.py::test_influence_is_a_product_over_later_steps"),
    Mutation("theory/_sphere", ".arctan(learning_rate)", ".sin(learning_rate)",
             "test_theory_runs.py::test_the_rate_at_fixed_norm_and_the_fraction_are_inverses"),
    Mutation("theory/_sphere", "(1 + momentum) / (2 * (1 - momentum))", "(1 - momentum) / (2 * (1 + momentum))",
             "test_theory_runs.py::test_the_rate_at_fixed_norm_and_the_fraction_are_inverses"),
    Mutation("theory/_sphere", "return learning_rate / fraction", "return learning_rate / (2 * fraction)",
             "test_theory_runs.py::test_lion_of_optax_stays_in_the_ball"),
    Mutation("theory/_matrices", "kappa * q * b / (1 - b)", "q * b / (1 - b)",
             "test_theory_runs.py::test_muon_settles_where_the_formulas_say"),
    Mutation("theory/_matrices", "(1 - kappa) * cubic", "cubic",
             "test_theory_runs.py::test_the_linear_part_of_a_square_matrix_and_of_a_vector"),
    Mutation("theory/_matrices", "if nesterov else 1.0", "if not nesterov else 1.0",
             "test_theory_runs.py::test_muon_settles_where_the_formulas_say"),
    Mutation("theory/_matrices", "min(shape) * together", "max(shape) * together",
             "test_theory_runs.py::test_muon_settles_where_the_formulas_say"),
    # recorder
    Mutation("diagnostics/record", "jnp.maximum(sums.step - along**2, 0)", "jnp.maximum(sums.step - along, 0)",
             "diagnostics/test_record.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("diagnostics/record", "growth=along / jnp.where", "growth=-along / jnp.where",
             "diagnostics/test_record.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("diagnostics/record", "jnp.atan2(across, weights + along)", "jnp.atan2(across, weights)",
             "diagnostics/test_record.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("diagnostics/record", "ratio=decay / jnp.where(decay > 0, updates, 1)",
             "ratio=updates / jnp.where(decay > 0, decay, 1)",
             "diagnostics/test_record.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("diagnostics/record", "jnp.log1p(-jnp.minimum(c, 0.5))", "jnp.log1p(jnp.minimum(c, 0.5))",
             "diagnostics/test_record.py::test_the_log_shrinkage_of_large_fractions"),
    Mutation("diagnostics/_measures", "(new - total) - wanted", "wanted - (new - total)",
             "diagnostics/test_record.py::test_the_log_shrinkage_counts_fractions_that_float32_would_lose"),
    Mutation("diagnostics/_measures", "same & decayed, decayed]", "same, decayed]",
             "diagnostics/test_record.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("diagnostics/record", "c + m * jax.lax.stop_gradient(link.fraction)", "c + jax.lax.stop_gradient(link.fraction)",
             "diagnostics/test_record.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("diagnostics/record", "jnp.min(shrunk, initial=0)", "jnp.sum(shrunk)",
             "diagnostics/test_record.py::test_the_total_is_the_record_of_all_weights_as_one_vector"),
    Mutation("diagnostics/record", "updates = _after(first, updates)", "pass",
             "diagnostics/test_record.py::test_a_step_copies_no_moments_and_writes_no_step_to_memory"),
    Mutation("diagnostics/record", "state.count - state.step >= every", "state.count - state.step > every",
             "diagnostics/test_record.py::test_every_holds_the_record_and_counts_all_steps"),
    Mutation("diagnostics/_measures", "decay + c * m * widen(pull)", "decay + c * widen(pull)",
             "diagnostics/test_record.py::test_the_record_of_each_leaf_is_that_of_numpy"),
    Mutation("diagnostics/_measures", "leaf, fractions = jax.lax.stop_gradient((leaf, fractions))",
             "leaf, fractions = (leaf, fractions)",
             "diagnostics/test_record.py::test_derivatives_of_one_eager_step_at_zero_weights_and_gradients"),
    Mutation("diagnostics/_measures", "math.ceil(n / length)", "n // length",
             "diagnostics/test_record.py::test_every_weight_is_counted_once"),
    Mutation("diagnostics/_measures", "_BLOCK = 512", "_BLOCK = 2**30",
             "diagnostics/test_record.py::test_sums_are_exact_whatever_the_shape"),
    Mutation("diagnostics/describe", "holds if c == 1", "holds if c >= 1",
             "diagnostics/test_describe.py::test_a_weight_held_at_its_norm_is_not_said_to_overshoot_zero"),
    # equivalents
    Mutation("diagnostics/equivalents", "timescale(c) * normalized(1.0, **run, epochs=1) ** 2",
             "timescale(c) * normalized(1.0, **run, epochs=1)",
             "diagnostics/test_equivalents.py::test_scales_of_time_and_budget"),
    Mutation("diagnostics/equivalents", "c / unit", "c * unit", "diagnostics/test_equivalents.py::test_scales_of_time_and_budget"),
    Mutation("diagnostics/equivalents", "unit**-2", "unit**-1", "diagnostics/test_equivalents.py::test_scales_of_time_and_budget"),
    Mutation("diagnostics/equivalents", "abs(1 - c) ** steps", "abs(1 + c) ** steps",
             "diagnostics/test_equivalents.py::test_scales_of_time_and_budget"),
    # the study's data
    Mutation("study/tasks/files", "min(validation_size, len(x) // 4)", "min(validation_size, len(x) // 3)",
             "study/tasks/test_files.py::test_inputs_may_have_any_shape_and_real_type"),
    Mutation("study/tasks/files", "rows[held_out:][:train_size]", "rows[:train_size]",
             "study/tasks/test_files.py::test_splits_are_rows_of_the_file_with_their_labels_and_none_twice"),
    Mutation("study/tasks/files", "scale_of(x[train])", "scale_of(x)",
             "study/tasks/test_files.py::test_images_are_scaled_by_channel_and_flat_inputs_by_feature"),
    Mutation("study/tasks/files", "np.where(deviation == 0, 1.0, deviation)", "deviation",
             "study/tasks/test_files.py::test_images_are_scaled_by_channel_and_flat_inputs_by_feature"),
    Mutation("study/tasks/files", "file.read(math.prod(shape) + 1)", "file.read(math.prod(shape))",
             "study/tasks/test_files.py::test_a_damaged_idx_file_is_told_by_its_name"),
    Mutation("study/tasks/files", "~np.isfinite(x.astype(np.float32, copy=False))", "~np.isfinite(x)",
             "study/tasks/test_files.py::test_what_cannot_be_learned_is_refused_by_its_name"),
    Mutation("study/tasks/networks", 'loss = shapes("loss", params, *batch, key)', "loss = jnp.zeros(())",
             "study/tasks/test_networks.py::test_what_cannot_be_trained_is_refused_by_its_part"),
    Mutation("study/tasks/npz", "promised != file.file_size", "promised < file.file_size",
             "study/tasks/test_data.py::test_cifar10_is_not_deceived_by_a_header"),
    Mutation("study/tasks/data", "images.bytes > 100 * images.compressed_bytes", "images.bytes < 0",
             "study/tasks/test_data.py::test_cifar10_refuses_a_small_file_of_huge_arrays_unread"),
    Mutation("study/tasks/data", "np.array_equal(found, np.arange(len(found)))", "(found >= 0).all()",
             "study/tasks/test_data.py::test_labels_that_are_no_classes_are_refused"),
    # the study's sweep and store
    Mutation("study/tasks/task", "            self.make_optimizer,\n            tuple(",
             "            None,\n            tuple(",
             "study/tasks/test_tasks.py::test_two_optimisers_with_one_label_are_two_runs"),
    Mutation("study/grid/checks", "if wrapped.any():", "if False:",
             "study/grid/test_sweep.py::test_whole_numbers_that_fit_are_taken_and_others_only_with_x64"),
    Mutation("study/grid/store", "zlib.crc32(repr([part.start for part in where]).encode(), zlib.crc32(self._salt))",
             "zlib.crc32(self._salt)",
             "study/grid/test_store.py::test_two_blocks_that_were_swapped_are_found"),
    Mutation("study/grid/description",
             "if not known or not (layout.has_whole_description(path) or _is_own(path, files)):", "if False:",
             "study/grid/test_store.py::test_nothing_of_anybody_s_is_touched"),
    Mutation("study/grid/locks", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB",
             "study/grid/test_store.py::test_a_second_process_is_told_at_once_by_whom"),
    # the study's report and command
    Mutation("study/report/page", "if not verdicts:", "if not findings:",
             "study/report/test_page.py::test_an_empty_report_replaces_none"),
    Mutation("study/report/page", "Path(folder, name).write_bytes(content)", "(out / name).write_bytes(content)",
             "study/report/test_page.py::test_a_full_disk_keeps_every_file_of_the_old_report"),
    Mutation("study/report/terminal", "if width < 72:", "if width < 30:",
             "study/test_cli.py::test_the_verdicts_are_whole_at_every_width"),
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


def _chosen(words: list[str]) -> list[int]:
    """The rows of these numbers, and of modules whose names start with these words; all without any."""
    rows = enumerate(MUTATIONS)
    starts = tuple(word for word in words if not word.isdigit())
    named = [n for n, mutation in rows if starts and mutation.module.startswith(starts)]
    numbered = [int(word) for word in words if word.isdigit()]
    return numbered + named if words else list(range(len(MUTATIONS)))


if __name__ == "__main__":
    sys.exit(main(_chosen(sys.argv[1:])))
