"""Which parameters decay: the same answer in every library, and nothing in silence."""

import os
import pickle
import re
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from libraries import LIBRARIES, NNX, Nnx
from wrong_masks import Pairs

import decoupled_wd as dwd
from decoupled_wd import masks
from decoupled_wd._base.paths import named_leaves


def by_path(mask, params):
    """Multipliers as a dict: from the tree, whose structure must be that of the params."""
    tree = masks.multipliers(mask, params)
    assert jax.tree.structure(tree) == jax.tree.structure(params)
    return dict(named_leaves(tree))


def layer(kernel=(2, 3)):
    return {"bias": jnp.ones(kernel[-1:]), "kernel": jnp.ones(kernel)}


EXPECTED = {
    "everything": (masks.everything(), lambda kind: 1.0),
    "no bias": (masks.without("bias"), lambda kind: float("bias" not in kind)),
    "no norm": (masks.without("norm"), lambda kind: float("norm" not in kind)),
    "usual": (
        masks.without("bias", "norm"),
        lambda kind: {"weight": 1.0, "embedding": 1.0}.get(kind, 0.0),
    ),
    "kernels": (masks.without("bias", "norm", "embedding"), lambda kind: float(kind == "weight")),
    "matrices": (masks.matrices(), lambda kind: {"weight": 1.0, "embedding": 1.0}.get(kind, 0.0)),
    "regex": (
        masks.matching(("(?i).*(bias|offset|/b)", 0.0), ("(?i).*(norm|ln_f).*", 0.25), (".*", 2.0)),
        lambda kind: 0.0 if "bias" in kind else 0.25 if kind == "norm" else 2.0,
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_gives_the_same_answer(library, name):
    params, kinds = LIBRARIES[library]()
    mask, expected = EXPECTED[name]
    answer = {path: expected(kind) for path, kind in kinds.items()}
    assert by_path(mask, params) == answer
    assert by_path(mask, jax.eval_shape(lambda: params)) == answer
    assert by_path(mask, jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)) == answer


@pytest.mark.parametrize("library", LIBRARIES)
def test_weights_shrink_by_the_fraction_times_the_multiplier(library):
    params, kinds = LIBRARIES[library]()
    mask, expected = EXPECTED["regex"]
    optimizer = dwd.decouple(optax.sgd(1.0), 0.125, mask=mask)
    params = jax.tree.map(lambda p: jnp.ones_like(p) * 3, params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    after = dict(named_leaves(optax.apply_updates(params, updates)))
    for path, kind in kinds.items():
        np.testing.assert_array_equal(after[path], 3 * (1 - 0.125 * expected(kind)))


def nnx_masks(model):
    state = nnx.state(model, nnx.Param)
    return {
        "policy": masks.without("bias", "norm", "embedding"),
        "rules": masks.matching((".*/kernel", 1.0), (".*", 0.0)),
        "static": jax.tree.map_with_path(
            lambda path, _: "kernel" in jax.tree_util.keystr(path), state
        ),
        "static pure": jax.tree.map_with_path(
            lambda path, _: "kernel" in jax.tree_util.keystr(path), nnx.as_pure(state)
        ),
        "callable": lambda params: jax.tree.map_with_path(
            lambda path, _: "kernel" in jax.tree_util.keystr(path), params
        ),
    }


@pytest.mark.parametrize("name", nnx_masks(Nnx(nnx.Rngs(0))))
def test_in_nnx_optimizer(name):
    model = Nnx(nnx.Rngs(0))
    tx = dwd.adamw(0.0, 0.125, mask=nnx_masks(model)[name])
    before = dict(named_leaves(nnx.state(model, nnx.Param)))
    before = {path: np.asarray(leaf) for path, leaf in before.items()}
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradients = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
        optimizer.update(model, gradients)

    step(model, optimizer)
    for path, after in named_leaves(nnx.state(model, nnx.Param)):
        kept = 0.875 if NNX[path] == "weight" else 1.0
        np.testing.assert_allclose(after, kept * before[path], rtol=1e-6)


NAMES = {
    "bias": "b Dense_0/bias mlp/~/linear/b rnn/bias_n lstm/in_proj/bias attn/rel_pos_bias norm/beta"
    " decoder/relative_position_bias_table",
    "norm": "scale LayerNorm_0/scale encoder/ln_1/scale ln_f/weight bn1/weight bn_init/scale norms/0/scale"
    " RMSNorm_3/scale input_layernorm/weight q_norm/scale final_norm/weight group_norm/gamma BN_0/scale"
    " blocks/3/norm1/weight logit_scale ls1/gamma layernorm_before/scale pre_norm/weight",
    "embedding": "Embed_0/embedding embed/embeddings embed/weight wte/weight transformer/wpe/weight"
    " pos_embedding encoder/pos_embed embedder/input_embedding token_embedding/weight embeds/0/weight",
    None: "w kernel Dense_0/kernel layers/0/weight mlp/~/linear_0/w attn/query/kernel patch_embed/weight"
    " lora/lora_b normals_head/weight weight_norm/layer/weight normalizer/weight beta_net/kernel"
    " embed/kernel cell/weight_hh attn/weight gan/weight column/weight bias_net/kernel norm_head/kernel",
}


@pytest.mark.parametrize(
    ("path", "kind"), [(path, kind) for kind, paths in NAMES.items() for path in paths.split()]
)
def test_names_are_told_by_kind(path, kind):
    params = {path: jnp.ones((2, 3)), "other": jnp.ones((2, 2))}
    for name in ("bias", "norm", "embedding"):
        norm_bias = name == "norm" and path == "norm/beta"
        assert by_path(masks.without(name), params)[path] == float(name != kind and not norm_bias)


def test_a_stack_of_norm_scales_is_not_a_matrix():
    params = {
        "scale": jnp.ones((12, 64)),
        "kernel": jnp.ones((12, 64, 64)),
        "head": jnp.ones((64, 9)),
    }
    assert by_path(masks.matrices(), params) == {"scale": 0.0, "kernel": 1.0, "head": 1.0}
    stacked = by_path(masks.matrices(stacked_axes=1), params)
    assert stacked == {"scale": 0.0, "kernel": 1.0, "head": 0.0}
    assert by_path(masks.without("norm"), params) == {"scale": 0.0, "kernel": 1.0, "head": 1.0}


def test_a_model_scanned_by_nnx_vmap():
    make = nnx.vmap(lambda rngs: nnx.LayerNorm(4, rngs=rngs))
    state = nnx.state(make(nnx.Rngs(0).split(12)), nnx.Param)
    params = {"norms": state, "head": jnp.ones((2, 4, 3))}
    assert all(leaf.shape == (12, 4) for leaf in jax.tree.leaves(state))
    expected = {"head": 1.0, "norms/bias": 0.0, "norms/scale": 0.0}
    assert by_path(masks.matrices(stacked_axes=1), params) == expected
    assert by_path(masks.without("bias", "norm"), params) == expected


def test_the_first_match_wins_and_a_pattern_matches_the_whole_path():
    params = {"body": layer(), "head": layer(), "kernel": jnp.ones(2)}
    mask = masks.matching(("head/.*", 0.5), (".*/bias", 0.0), ("kernel", 3), (".*", 1.0))
    assert by_path(mask, params) == {
        "body/bias": 0.0,
        "body/kernel": 1.0,
        "head/bias": 0.5,
        "head/kernel": 0.5,
        "kernel": 3.0,
    }


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("kernel", 1.0), (".*", 0.0)], "'kernel' matches no .*'dense/kernel'.*remove the rule"),
        ([("step", 0.0), (".*", 1.0)], "'step' matches no floating-point parameter"),
        (
            [(".*/kernel", 1.0)],
            r"no pattern covers \['dense/bias'\]; add a rule, such as \('.\*', 1.0\)",
        ),
        ([(".*", 1.0), (".*/bias", 0.0)], r"'.\*/bias' has no effect: '.\*' comes first"),
        ([(".*", 0.0)], "mask selects no parameter"),
    ],
)
def test_rules_that_do_not_fit_the_params(rules, message):
    params = {"dense": layer(), "step": jnp.array(3)}
    for resolve in (
        lambda: masks.multipliers(masks.matching(*rules), params),
        lambda: dwd.adamw(0.1, 0.1, mask=masks.matching(*rules)).init(params),
        lambda: dwd.sgd(0.1, 0.1, mask=masks.matching(*rules)).init(params),
    ):
        with pytest.raises(ValueError, match=message):
            resolve()


@pytest.mark.parametrize("pattern", ["kernel", "a/k", "a/kernel|never"])
def test_a_pattern_does_not_match_a_part_of_a_path(pattern):
    params = {
        "a": {"k": jnp.ones(1), "kernel": jnp.ones(1), "kernel_2": jnp.ones(1)},
        "kernel": jnp.ones(1),
    }
    whole = {"kernel": "kernel", "a/k": "a/k", "a/kernel|never": "a/kernel"}[pattern]
    found = by_path(masks.matching((pattern, 0.5), (".*", 1.0)), params)
    assert [path for path, m in found.items() if m == 0.5] == [whole]


def test_a_last_rule_for_the_rest_may_have_nothing_left():
    mask = masks.matching((".*/kernel", 1.0), (".*/bias", 0.5), (".*", 0.0))
    assert by_path(mask, {"a": layer()}) == {"a/bias": 0.5, "a/kernel": 1.0}
    mask = masks.matching((".*kernel", 0.5), (".*", 1.0))
    assert by_path(mask, {"a": {"kernel": jnp.ones(2)}, "kernel": jnp.ones(2)})["kernel"] == 0.5


def test_a_rule_may_repeat_what_an_earlier_one_has_decided():
    params = {"norm": {"bias": jnp.ones(2), "scale": jnp.ones(2)}, "head": {"kernel": jnp.ones(2)}}
    found = by_path(masks.matching(("norm/.*", 0.0), (".*/bias", 0.0), (".*", 1.0)), params)
    assert found == {"head/kernel": 1.0, "norm/bias": 0.0, "norm/scale": 0.0}


def test_a_long_list_of_uncovered_parameters_is_cut():
    params = {f"layer_{index:02}": layer() for index in range(30)}
    with pytest.raises(ValueError, match=re.escape("'layer_09/bias'] and 20 more")):
        masks.multipliers(masks.matching((".*/kernel", 1.0)), params)


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ((), ValueError, r"at least one rule.*everything\(\)"),
        (([(".*", 1.0), ("b", 0.0)],), TypeError, "must be a pair"),
        ((".*",), TypeError, "must be a pair"),
        (("ab",), TypeError, "must be a pair"),
        (((".*", 1.0, 2.0),), TypeError, "must be a pair"),
        (((re.compile(".*"), 1.0),), TypeError, "with a string as pattern"),
        ((("(", 1.0),), ValueError, r"'\(' is not a regular expression.*backslash"),
        (((".*", -1.0),), ValueError, r"multiplier of '.\*' must be finite and >= 0, got -1.0"),
        (((".*", float("nan")),), ValueError, "finite"),
        (((".*", float("inf")),), ValueError, "finite"),
        (((".*", "1"),), TypeError, "must be a real number"),
        (((".*", None),), TypeError, "must be a real number"),
    ],
)
def test_wrong_rules_are_refused_at_construction(rules, error, message):
    with pytest.raises(error, match=message):
        masks.matching(*rules)


def test_a_doubt_counts_where_it_decides_the_multiplier():
    """`without` doubts the vector, which the larger multiplier, or the factor, may settle."""
    params = {"w": jnp.ones((2, 2)), "intercept": jnp.ones(2)}
    doubtful = masks.without("bias")
    for mask in (doubtful | 0.5 * masks.everything(), doubtful * masks.everything()):
        with pytest.warns(UserWarning, match="intercept"):
            masks.multipliers(mask, params)
    for mask in (
        doubtful | 2.0 * masks.everything(),
        doubtful * masks.matching(("intercept", 0.0), (".*", 1.0)),
    ):
        masks.multipliers(mask, params)


def widths(d, ff, vocabulary=50, depth=None):
    """Shapes of a transformer's layer, stacked if it has a depth."""
    stack = () if depth is None else (depth,)
    shapes = {"embed": (vocabulary, d), "up": (*stack, d, ff), "norm": (*stack, d), "gain": ()}
    return {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}


def test_multipliers_by_width_are_powers_of_the_ratio():
    base, wide = widths(64, 256), widths(256, 1024)
    for exponent in (-1.0, -0.5, 0.0, 0.5):
        got = masks.multipliers(masks.relative_to(base, exponent), wide)
        assert got == pytest.approx(
            {"embed": 4**exponent, "up": 4**exponent, "norm": 4**exponent, "gain": 1.0}
        )
    # rows by 4, columns by 9: the width is taken as 6
    got = masks.multipliers(masks.relative_to(widths(10, 20), -1), widths(40, 180))
    assert got["up"] == pytest.approx(1 / 6)
    assert got["embed"] == pytest.approx(1 / 4)
    # no decay on vectors, as arXiv 2510.15262 has it
    rule = masks.matrices() * masks.relative_to(base, -0.5)
    assert masks.multipliers(rule, wide) == {"embed": 0.5, "up": 0.5, "norm": 0.0, "gain": 0.0}
    assert masks.multipliers(masks.relative_to(base, -0.5), base) == dict.fromkeys(base, 1.0)


def test_stacked_axes_are_no_widths():
    base, deep = widths(8, 16, depth=2), widths(8, 16, depth=6)
    assert masks.multipliers(masks.relative_to(base, -1), deep)["norm"] == pytest.approx(1 / 3)
    base.pop("embed"), deep.pop("embed")
    mask = masks.relative_to(base, -1, stacked_axes=1)
    assert set(masks.multipliers(mask, deep).values()) == {1.0}


def test_a_mask_by_width_is_a_value_that_prints_in_a_line():
    one, two = (masks.relative_to(widths(8, 16), -0.5) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != masks.relative_to(widths(8, 17), -0.5)
    assert repr(0.1 * one) == "0.1 * relative_to(<4 shapes>, -0.5)"
    table = str(dwd.describe(widths(32, 64), 0.1, mask=one))
    assert "width × 4" in table


def test_widths_of_a_hidden_part_and_of_a_traced_exponent():
    params = jax.tree.map(lambda x: jnp.ones(x.shape), widths(16, 32)) | {"count": 3}
    optimizer = optax.masked(
        dwd.adamw(0.1, 0.1, mask=masks.relative_to(widths(8, 16), -1)),
        {"embed": True, "up": True, "norm": False, "gain": False, "count": False},
    )
    optimizer.init(params)
    found = jax.jit(lambda e: masks.multipliers(masks.relative_to(widths(8, 16), e), params))(-2.0)
    assert float(found["up"]) == 0.25


HALVING = optax.exponential_decay(1.0, 1, 0.5)


@pytest.mark.parametrize(
    ("mask", "at_0", "at_2"),
    [
        (lambda m: m * masks.matching(("bias", 0.0), (".*", 0.5)), (0.0, 0.5), (0.0, 0.125)),
        (lambda m: masks.matrices() * masks.matching((".*", m)), (0.0, 1.0), (0.0, 0.25)),
        (
            lambda m: masks.matching((".*", m)) & {"bias": 0.5, "kernel": 2},
            (0.5, 1.0),
            (0.25, 0.25),
        ),
        (lambda m: {"bias": 0.5, "kernel": 0} | masks.matching((".*", m)), (1.0, 1.0), (0.5, 0.25)),
        (lambda m: {"bias": m, "kernel": True}, (1.0, 1.0), (0.25, 1.0)),
        (lambda m: m * (m * masks.everything()), (1.0, 1.0), (0.0625, 0.0625)),
    ],
)
def test_multipliers_that_move_combine_as_their_values_do(mask, at_0, at_2):
    """Schedules, and traced numbers with the values that they have at a step."""

    def values(found, t):
        return [float(m(t)) if callable(m) else float(m) for m in jax.tree.leaves(found)]

    scheduled = masks.multipliers(mask(HALVING), layer())
    assert values(scheduled, 0) == pytest.approx(at_0)
    assert values(scheduled, 2) == pytest.approx(at_2)
    traced = jax.jit(lambda m: masks.multipliers(mask(m), layer()))(0.25)
    assert values(traced, 0) == pytest.approx(at_2)


def test_a_mask_of_a_schedule_is_a_value_and_reads_well():
    mask = masks.matching(("bias", 0.0), (".*", HALVING))
    assert mask == masks.matching(("bias", 0.0), (".*", HALVING))
    assert "0x" not in repr(HALVING * mask)
    table = str(dwd.describe(layer(), 0.1, mask=HALVING * masks.matrices()))
    assert "(schedule) * matrix" in table
    assert "the mask holds a schedule: the multipliers are those at step 0" in table
    report = dwd.preflight(layer(), 0.1, mask=mask, steps=3, on_loss="return")
    assert [row.last_fraction for row in report.rows] == pytest.approx([0.0, 0.025])


def test_a_schedule_that_is_a_module_is_one_multiplier():
    schedule = jax.tree_util.Partial(lambda scale, step: scale * 0.5**step, jnp.array(1.0))
    found = masks.multipliers(masks.matching((".*", schedule)), layer())
    assert [float(m(1)) for m in jax.tree.leaves(found)] == [0.5, 0.5]


def test_wrong_arguments_of_the_other_policies():
    with pytest.raises(ValueError, match=r"'biases'.*matching"):
        masks.without("norm", "biases")
    with pytest.raises(ValueError, match=r"among \['bias', 'norm', .*\], got \['bias'\]"):
        masks.without(["bias"])
    with pytest.raises(ValueError, match="got none"):
        masks.without()
    with pytest.raises(ValueError, match="stacked_axes must be finite and >= 0"):
        masks.matrices(stacked_axes=-1)
    with pytest.raises(ValueError, match="stacked_axes must be whole"):
        masks.matrices(stacked_axes=0.5)
    with pytest.raises(TypeError, match="stacked_axes"):
        masks.matrices(stacked_axes=layer())


@pytest.mark.parametrize("name", ["everything", "matrices", "matching", "without"])
def test_a_policy_that_is_not_called(name):
    for optimizer in (dwd.adamw, dwd.adam):
        with pytest.raises(TypeError, match=rf"call it, as in mask=masks\.{name}\("):
            optimizer(0.1, 0.1, mask=getattr(masks, name)).init(layer())


def test_a_policy_without_what_it_leaves_out_is_no_error_but_an_empty_selection_is():
    assert by_path(masks.without("bias", "norm"), {"w": jnp.ones((2, 2))}) == {"w": 1.0}
    with pytest.raises(
        ValueError,
        match=r"selects no parameter of \['b'\]; select at least one, or use a weight decay of 0",
    ):
        masks.multipliers(masks.without("bias"), {"b": jnp.ones(2), "n": jnp.array(1)})


VALUES = [
    masks.everything,
    masks.matrices,
    lambda: masks.matrices(stacked_axes=1),
    lambda: masks.without("bias"),
    lambda: masks.without("bias", "norm"),
    lambda: masks.matching((".*", 1.0)),
    lambda: masks.matching([".*", True], ("a", 0)),
]


def test_masks_are_values():
    assert len({make() for make in VALUES} | {make() for make in VALUES}) == len(VALUES)
    for mask in (make() for make in VALUES):
        assert not callable(mask)
        assert pickle.loads(pickle.dumps(mask)) == mask
        assert " at 0x" not in repr(mask)
    assert masks.matching([".*", True], ("a", 0)) == masks.matching((".*", 1.0), ("a", 0.0))
    with pytest.raises(AttributeError):
        masks.everything().arguments = ()


def test_inject_hyperparams_takes_a_mask_for_what_it_is():
    mask = masks.matching((".*bias", 0.0), (".*", 1.0))
    optimizer = optax.inject_hyperparams(dwd.adamw)(0.0, 0.125, coupling=dwd.CONSTANT, mask=mask)
    params = layer()
    state = optimizer.init(params)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    np.testing.assert_array_equal(updates["kernel"], -0.125)
    np.testing.assert_array_equal(updates["bias"], 0.0)


def decayed(mask, params, updates=None):
    """What one step of decay 1/8 takes from each leaf, by path."""
    link = dwd.add_decayed_weights(0.125, mask)
    updates = jax.tree.map(jnp.zeros_like, params) if updates is None else updates
    return link.update(updates, link.init(params), params)[0]


TREES = {
    "booleans": {"a": {"bias": False, "kernel": True}, "b": {"bias": False, "kernel": False}},
    "numbers": {"a": {"bias": 0, "kernel": 0.5}, "b": {"bias": 0.0, "kernel": 2}},
    "prefix": {"a": True, "b": False},
    "prefix of numbers": {"a": 0.25, "b": {"bias": 0.0, "kernel": 1.0}},
    "one": 0.5,
    "none": None,
    "numpy": {"a": np.bool_(True), "b": np.float32(0.5)},
    "arrays": {"a": np.array(True), "b": np.array(0.5)},
    "jax": {"a": jnp.array(False), "b": jnp.array(2)},
    "callable": lambda params: {"a": params["a"]["kernel"].ndim > 1, "b": 0.5},
    "callable that makes a policy": lambda params: masks.matrices(),
}
TAKEN = {  # multipliers of a/bias, a/kernel, b/bias, b/kernel
    "booleans": (0, 1, 0, 0),
    "numbers": (0, 0.5, 0, 2),
    "prefix": (1, 1, 0, 0),
    "prefix of numbers": (0.25, 0.25, 0, 1),
    "one": (0.5, 0.5, 0.5, 0.5),
    "none": (1, 1, 1, 1),
    "numpy": (1, 1, 0.5, 0.5),
    "arrays": (1, 1, 0.5, 0.5),
    "jax": (0, 0, 2, 2),
    "callable": (1, 1, 0.5, 0.5),
    "callable that makes a policy": (0, 1, 0, 1),
}


@pytest.mark.parametrize("name", TREES)
def test_optax_habits(name):
    params = {"a": layer(), "b": layer()}
    assert tuple(by_path(TREES[name], params).values()) == TAKEN[name]
    taken = jax.tree.leaves(decayed(TREES[name], params))
    for got, multiplier in zip(taken, TAKEN[name], strict=True):
        np.testing.assert_array_equal(got, 0.125 * multiplier)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            {"bias": "no_decay", "kernel": "decay"},
            TypeError,
            "mask at 'bias' must be a real number",
        ),
        ("no_decay", TypeError, "mask at 'bias' must be a real number, got 'no_decay'"),
        ("float32", TypeError, "mask at 'bias' must be a real number"),
        ({"bias": -0.5, "kernel": 1.0}, ValueError, "mask at 'bias' must be finite and >= 0"),
        ({"bias": float("nan"), "kernel": 1.0}, ValueError, "mask at 'bias' must be finite"),
        (
            {"bias": None, "kernel": 1.0},
            TypeError,
            "mask at 'bias' must be a real number, got None",
        ),
        ({"bias": np.ones(3, bool), "kernel": True}, TypeError, "mask at 'bias'"),
        ({"bias": np.ones(1, bool), "kernel": True}, TypeError, "mask at 'bias'"),
        ({"kernel": True}, ValueError, "structure of the params, or a prefix of it"),
        ({"bias": {"a": True}, "kernel": True}, ValueError, "structure of the params"),
        ({"bias": False, "kernel": 0}, ValueError, "mask selects no parameter"),
        (lambda params: "yes", TypeError, "mask at 'bias' must be a real number"),
    ],
)
def test_trees_that_do_not_fit(mask, error, message):
    with pytest.raises(error, match=message):
        dwd.adamw(0.1, 0.1, mask=mask).init(layer())


def test_a_callable_is_called_on_params_and_never_on_updates():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), layer())
    updates = jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), params)
    seen = []

    def narrow(tree):
        seen.append({str(leaf.dtype) for leaf in jax.tree.leaves(tree)})
        return jax.tree.map(lambda leaf: leaf.dtype == jnp.bfloat16, tree)

    taken = decayed(narrow, params, updates)
    assert all((np.asarray(leaf) == 0.125).all() for leaf in jax.tree.leaves(taken))
    assert seen == [{"bfloat16"}] * 2


MIXED = {
    "absent": None,
    "flag": jnp.array([True, False]),
    "key": jax.random.key(0),
    "kernel": jnp.ones((2, 2)),
    "old_key": jax.random.PRNGKey(0),
    "steps": jnp.array([1, 2, 3]),
}
NO_GRADIENT = dict.fromkeys(MIXED) | {"kernel": jnp.zeros((2, 2))}


@pytest.mark.parametrize(
    "mask",
    [
        masks.everything(),
        masks.without("bias"),
        masks.matrices(),
        masks.matching((".*", 1.0)),
        masks.matching(("kernel", 1.0)),
        dict.fromkeys(MIXED, True),
        lambda params: jax.tree.map(lambda _: True, params),
    ],
)
def test_what_does_not_train_is_left_untouched(mask):
    m = masks.multipliers(mask, MIXED)
    assert m == dict.fromkeys(MIXED, 0.0) | {"absent": None, "kernel": 1.0}
    updates = decayed(mask, MIXED, NO_GRADIENT)
    np.testing.assert_array_equal(updates["kernel"], 0.125)
    assert all(updates[name] is None for name in MIXED if name != "kernel")
    words = {path: match.rule for path, _, match in masks.matches(mask, MIXED) if path != "kernel"}
    assert words == {
        "absent": "None: untouched",
        "flag": "boolean: untouched",
        "key": "key: untouched",
        "old_key": "integer: untouched",
        "steps": "integer: untouched",
    }


def test_what_optax_hides_is_skipped():
    params = {"body": layer(), "head": layer()}
    mask = masks.matching(("head/.*", 0.5), (".*/bias", 0.0), (".*", 1.0))
    hidden = {"body": layer(), "head": optax.MaskedNode()}
    assert by_path(mask, hidden) == {"body/bias": 0.0, "body/kernel": 1.0}
    links = {"train": dwd.add_decayed_weights(0.125, mask), "freeze": optax.set_to_zero()}
    labels = {"body": "train", "head": "freeze"}
    full = jax.tree.map_with_path(lambda path, _: labels[path[0].key], params)
    for optimizer in (
        optax.masked(links["train"], {"body": True, "head": False}),
        optax.partition(links, labels),
        optax.partition(links, full),
    ):
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        np.testing.assert_array_equal(updates["body"]["kernel"], 0.125)
        for rest in (updates["body"]["bias"], *jax.tree.leaves(updates["head"])):
            np.testing.assert_array_equal(rest, 0.0)
    uncovered = masks.matching(("head/.*", 0.5), (".*/bias", 0.0))
    with pytest.raises(ValueError, match="no pattern covers"):
        masks.multipliers(uncovered, hidden)


def test_select_keeps_what_has_a_multiplier():
    tree = {"a": [1.0, 2.0], "b": 3.0}
    chosen = masks.select(tree, {"a": [0.0, 0.5], "b": 1.0})
    assert chosen == {"a": [optax.MaskedNode(), 2.0], "b": 3.0}


def test_sharded_over_eight_devices():
    script = """
        import jax, jax.numpy as jnp, numpy as np, optax
        from jax.sharding import NamedSharding, PartitionSpec as P
        import decoupled_wd as dwd

        mesh = jax.make_mesh((8,), ("data",))
        params = {"dense": {"kernel": jnp.ones((16, 4)), "bias": jnp.ones(8)}, "steps": jnp.arange(8)}
        params = jax.device_put(params, NamedSharding(mesh, P("data")))
        assert len(params["dense"]["kernel"].sharding.device_set) == 8
        gradients = jax.tree.map(lambda p: p * 0, params)
        rules = dwd.masks.matching((".*/bias", 0.0), (".*", 0.5))
        tree = {"dense": {"kernel": 0.5, "bias": 0}, "steps": 1}
        for mask in (rules, tree):
            optimizer = dwd.decouple(optax.sgd(0.1), 0.25, mask=mask)
            state = jax.jit(optimizer.init)(params)
            updates, _ = jax.jit(optimizer.update)(gradients, state, params)
            np.testing.assert_array_equal(updates["dense"]["kernel"], -0.125)
            np.testing.assert_array_equal(updates["dense"]["bias"], 0.0)
            kernel = params["dense"]["kernel"]
            assert updates["dense"]["kernel"].sharding.is_equivalent_to(kernel.sharding, 2)
        print("sharded")
    """
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command, env=os.environ | flags, capture_output=True, text=True, check=False
    )
    assert done.stdout == "sharded\n", done.stderr


PARTS = {
    "matrices": masks.matrices(),
    "kinds": masks.without("embedding", "bias"),
    "rules": masks.matching((".*/kernel", 0.25), (".*", 2.0)),
    "tree": {"embed": 0.5, "head": {"bias": 0, "kernel": True}},
    "callable": lambda params: jax.tree.map(lambda p: p.size > 2, params),
}
MODEL = {"embed": {"embedding": jnp.ones((9, 2))}, "head": layer()}


@pytest.mark.parametrize("right", PARTS)
@pytest.mark.parametrize("left", ["matrices", "kinds", "rules"])
def test_masks_combine_leaf_by_leaf(left, right):
    a, b = by_path(PARTS[left], MODEL), by_path(PARTS[right], MODEL)
    for one, other in ((PARTS[left], PARTS[right]), (PARTS[right], PARTS[left])):
        assert by_path(one & other, MODEL) == {path: min(a[path], b[path]) for path in a}
        assert by_path(one | other, MODEL) == {path: max(a[path], b[path]) for path in a}


@pytest.mark.parametrize("name", ["matrices", "kinds"])
def test_the_complement_and_the_product(name):
    mask = PARTS[name]
    found = by_path(mask, MODEL)
    assert by_path(~mask, MODEL) == {path: 1 - m for path, m in found.items()}
    assert by_path(~~mask, MODEL) == found
    for factor in (0.25, 2, np.float32(0.25), np.float64(4.0), np.int64(3), jnp.float32(0.5)):
        tenth = {path: float(factor) * m for path, m in found.items()}
        assert by_path(factor * mask, MODEL) == by_path(mask * factor, MODEL) == tenth


def test_de_morgan_and_what_nobody_trains():
    a, b = PARTS["matrices"], PARTS["kinds"]
    assert by_path(~(a & b), MODEL) == by_path(~a | ~b, MODEL)
    assert by_path(~(a | b), MODEL | {"x": jnp.ones(3)}) == by_path(
        ~a & ~b, MODEL | {"x": jnp.ones(3)}
    )
    mixed = masks.multipliers(~masks.without("bias") | masks.everything(), MIXED)
    assert mixed == dict.fromkeys(MIXED, 0.0) | {"absent": None, "kernel": 1.0}


def test_a_tenth_on_the_embedding():
    mask = masks.without("embedding", "bias") | 0.1 * masks.matrices()
    taken = decayed(mask, MODEL)
    np.testing.assert_allclose(taken["embed"]["embedding"], 0.0125, rtol=1e-6)
    np.testing.assert_array_equal(taken["head"]["kernel"], 0.125)
    np.testing.assert_array_equal(taken["head"]["bias"], 0.0)


def test_combined_masks_are_values_too():
    def make():
        a, b, c = masks.matrices(stacked_axes=1), masks.without("bias"), masks.everything()
        return [a & b, a | b, ~a, 0.1 * a, 0.1 * (a & b), (a & b) | c, a & (b | c), a & b & c]

    assert len(set(make()) | set(make())) == 8
    assert [repr(mask) for mask in make()] == [
        "matrices(stacked_axes=1) & without('bias')",
        "matrices(stacked_axes=1) | without('bias')",
        "~matrices(stacked_axes=1)",
        "0.1 * matrices(stacked_axes=1)",
        "0.1 * (matrices(stacked_axes=1) & without('bias'))",
        "(matrices(stacked_axes=1) & without('bias')) | everything()",
        "matrices(stacked_axes=1) & (without('bias') | everything())",
        "matrices(stacked_axes=1) & without('bias') & everything()",
    ]
    for mask in make():
        assert not callable(mask)
        assert eval(repr(mask), vars(masks)) == mask
        assert pickle.loads(pickle.dumps(mask)) == mask
    shown = repr(masks.everything() & PARTS["callable"] & {"a": 1})
    assert shown == "everything() & <lambda> & {'a': 1}"
    assert repr(~(masks.everything() | masks.matrices())) == "~(everything() | matrices())"


def test_inject_hyperparams_takes_a_combined_mask():
    mask = 0.5 * (masks.matrices() & masks.without("embedding") & (lambda p: p["head"] and True))
    optimizer = optax.inject_hyperparams(dwd.adamw)(0.0, 0.125, coupling=dwd.CONSTANT, mask=mask)
    zeros = jax.tree.map(jnp.zeros_like, MODEL)
    updates, _ = optimizer.update(zeros, optimizer.init(MODEL), MODEL)
    np.testing.assert_array_equal(updates["head"]["kernel"], -0.0625)
    np.testing.assert_array_equal(updates["embed"]["embedding"], 0.0)


def test_a_weight_of_one_axis_is_a_norms():
    for name in ("weight", "kernel", "w", "weights"):
        params = {"layers": [{name: jnp.ones(4)}, {name: jnp.ones((4, 4))}], name: jnp.ones(4)}
        found = by_path(masks.without("norm"), params)
        assert found == {f"layers/0/{name}": 0.0, f"layers/1/{name}": 1.0, name: 1.0}
        stacked = {"layers": [{name: jnp.ones((3, 4))}, {name: jnp.ones((3, 4, 4))}]}
        assert set(by_path(masks.without("norm", stacked_axes=1), stacked).values()) == {0.0, 1.0}
        assert by_path(masks.matrices(stacked_axes=1), stacked)[f"layers/0/{name}"] == 0.0


def test_biases_of_several_axes_are_no_matrices():
    vectors = {"offset": (1, 1, 1, 8), "bias": (8, 1, 1), "final_logits_bias": (1, 9), "b": (2, 4)}
    vectors |= {"scale": (1, 1, 1, 8), "alpha": (1, 1, 8), "0": (1, 1, 1, 8)}
    matrix = {"kernel": (1, 1, 8, 1), "weight": (1, 1, 3), "w": (64, 1), "head": (64, 1)}
    params = {name: jnp.ones(shape) for name, shape in (vectors | matrix).items()}
    expected = dict.fromkeys(vectors, 0.0) | dict.fromkeys(matrix, 1.0)
    assert by_path(masks.matrices(), params) == expected


NAMELESS = [(jnp.ones((2, 2)), jnp.ones(2)), (jnp.ones((2, 2)), jnp.ones(2))]


@pytest.mark.parametrize(
    ("mask", "params", "found"),
    [
        (masks.without("bias"), NAMELESS, r"kind 'bias', and \['0/1', '1/1'\]"),
        (masks.without("bias", "norm"), NAMELESS, "kind 'bias' or 'norm'"),
        (masks.without("token"), NAMELESS, "kind 'token'"),
        (0.5 * masks.without("bias"), NAMELESS, "kind 'bias'"),
        (masks.without("bias") & masks.everything(), NAMELESS, "kind 'bias'"),
        (masks.without("bias") | masks.matrices(), NAMELESS, "kind 'bias'"),
        (masks.without("norm"), {"d": layer(), "temperature": jnp.ones(())}, "'temperature'"),
    ],
)
def test_a_kind_that_is_not_there_warns_where_a_vector_would_decay(mask, params, found):
    for resolve in (
        lambda: masks.multipliers(mask, params),
        lambda: dwd.adamw(0.1, 0.1, mask=mask).init(params),
    ):
        with pytest.warns(UserWarning, match=found + ".*masks.matching"):
            resolve()


def test_a_kind_that_is_plainly_not_there_does_not_warn():
    llama = {"norm": {"weight": jnp.ones(4)}, "head": {"kernel": jnp.ones((4, 4))}}
    masks.multipliers(masks.without("bias", "norm", "embedding"), llama)
    masks.multipliers(masks.without("bias"), llama)
    masks.multipliers(masks.without("bias", "norm"), [jnp.ones((2, 2))])
    masks.multipliers(masks.without("embedding", "token"), {"d": layer(), "t": jnp.ones(())})
    masks.multipliers(masks.without("bias") & masks.matrices(), NAMELESS)
    masks.multipliers(masks.without("bias") | masks.everything(), NAMELESS)
    masks.multipliers(masks.without("bias"), {"t": jnp.ones(1), "d": optax.MaskedNode()})


def test_rules_may_come_from_any_sequence():
    rules = Pairs(Pairs(".*bias", 0.0), Pairs(".*", 1.0))
    assert masks.matching(*rules) == masks.matching((".*bias", 0.0), (".*", 1.0))
    assert hash(masks.matching(*rules)) == hash(masks.matching((".*bias", 0.0), (".*", 1.0)))


def test_two_parameters_with_one_path():
    params = {"a/bias": jnp.ones(2), "a": {"bias": jnp.ones(3), "kernel": jnp.ones((2, 2))}}
    m = masks.multipliers(masks.without("bias"), params)
    assert m == {"a/bias": 0.0, "a": {"bias": 0.0, "kernel": 1.0}}
    with pytest.raises(ValueError, match=r"share the path \['a/bias'\]"):
        masks.multipliers(masks.matching((".*bias", 0.0), (".*", 1.0)), params)
