"""The table of what decays, against rows computed by hand and against training itself."""

import dataclasses
import math
from html.parser import HTMLParser

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from libraries import LIBRARIES
from test_masks import MIXED, layer

import decoupled_wd as dwd
from decoupled_wd import masks
from decoupled_wd._base.paths import named_leaves
from decoupled_wd.diagnostics.describe import PlannedLeaf, describe

PARAMS = {
    "dense": {"bias": jnp.ones(4, jnp.bfloat16), "kernel": jnp.ones((3, 4))},
    "steps": jnp.array(7),
}
RULES = masks.matching((".*/bias", 0.0), (".*", 2.0))


def test_rows_by_hand():
    half_life = pytest.approx(math.log(2) / -math.log(0.98), rel=1e-14)
    described = describe(PARAMS, 0.01, mask=RULES)
    assert described.rows == (
        PlannedLeaf("dense/bias", (4,), "bfloat16", 4, 0.0, 0.0, math.inf, ".*/bias"),
        PlannedLeaf("dense/kernel", (3, 4), "float32", 12, 2.0, 0.02, half_life, ".*"),
        PlannedLeaf(
            "steps", (), "int32", 0, 0.0, 0.0, math.inf, "integer: untouched", trained=False
        ),
    )
    assert (described.decayed, described.total) == (12, 16)


def fraction(*arguments, **options):
    return describe({"w": jnp.ones(2)}, *arguments, **options).rows[0].fraction


WARM_UP = optax.warmup_cosine_decay_schedule(0.0, 0.25, 3, 10)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.5),
        ({"learning_rate": 0.25}, 0.5),
        ({"learning_rate": 0.25, "coupling": dwd.LR}, 0.125),
        ({"learning_rate": 0.25, "coupling": dwd.CONSTANT}, 0.5),
        ({"learning_rate": 0.25, "coupling": dwd.Coupling(2, 1)}, 0.03125),
        ({"learning_rate": WARM_UP, "coupling": dwd.CONSTANT}, 0.5),
        ({"learning_rate": WARM_UP, "peak_learning_rate": 0.25}, 0.5),
        ({"learning_rate": WARM_UP, "peak_learning_rate": 0.25, "coupling": dwd.LR}, 0.125),
        ({"learning_rate": WARM_UP, "peak_learning_rate": 0.25, "coupling": dwd.CORRECTED}, 0.125),
    ],
)
def test_the_fraction_is_that_of_the_peak(options, expected):
    assert fraction(0.5, **options) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("coupling", [dwd.PAPER, dwd.LR, dwd.CONSTANT, dwd.CORRECTED])
def test_training_removes_what_the_table_says(coupling):
    options = {"learning_rate": WARM_UP, "peak_learning_rate": 0.25, "coupling": coupling}
    params = {"dense": layer(), "steps": jnp.array([1, 2])}
    described = describe(params, 0.5, mask=RULES, **options)
    link = dwd.decay_weights(0.5, mask=RULES, **options)
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = link.init(params)
    for _ in range(4):  # the schedule is at its peak in the fourth step
        updates, state = link.update(zeros, state, params)
    removed = {path: -float(np.ravel(leaf)[0]) for path, leaf in named_leaves(updates)}
    for row in described.rows:
        assert removed[row.path] == pytest.approx(row.fraction, rel=1e-6)


@pytest.mark.parametrize("c", [1e-12, 1e-6, 0.01, 0.5, 0.9])
def test_a_half_life_halves(c):
    half_life = describe({"w": jnp.ones(2)}, c).rows[0].half_life
    assert math.log1p(-c) * half_life == pytest.approx(-math.log(2), rel=1e-12)


def test_of_a_schedule_the_first_value_is_taken_and_a_note_says_so():
    decay = optax.linear_schedule(0.25, 0.0, 10)
    described = describe({"w": jnp.ones(2)}, decay)
    assert described.rows == describe({"w": jnp.ones(2)}, 0.25).rows
    assert "a schedule: the fractions are those of its value at step 0" in str(described)
    assert "schedule" not in str(describe({"w": jnp.ones(2)}, 0.25, coupling=dwd.CONSTANT))


def test_a_decay_that_was_not_told_the_learning_rate_is_said():
    told = "learning_rate is not given: the fractions stay the same"
    assert told in str(describe({"w": jnp.ones(2)}, 0.25))
    for said in ({"coupling": "optax.adafactor"}, {"learning_rate": 0.1}):
        assert told not in str(describe({"w": jnp.ones(2)}, 0.25, **said))


def test_a_tree_of_decays():
    params = {"a": layer(), "b": layer(), "steps": jnp.array(1)}
    decays = {"a": 0.5, "b": {"bias": 0.0, "kernel": 0.25}, "steps": 0.0}
    fractions = [row.fraction for row in describe(params, decays).rows]
    assert fractions == [0.5, 0.5, 0.0, 0.25, 0.0]
    with pytest.raises(ValueError, match="weight_decay must have the structure of the params"):
        describe(params, {"a": 0.5})
    with pytest.raises(
        ValueError, match="weight_decay at 'b/bias' must be finite and >= 0, got -1"
    ):
        describe(params, {"a": 0.5, "b": -1.0, "steps": 0.0})


TABLE = """\
path          shape   dtype     parameters  multiplier  fraction  half-life  rule
dense/bias    (4,)    bfloat16  4           0           0         ∞          .*/bias
dense/kernel  (3, 4)  float32   12          2           0.02      34.31      .*
12 of 16 parameters decay, in 1 of 2 leaves
not trained, and not shown: 1 integer"""


def test_the_text():
    described = describe(PARAMS, 0.01, coupling=dwd.CONSTANT, mask=RULES)
    assert str(described) == repr(described) == TABLE


def test_what_no_optimiser_trains_is_one_line_below_the_table():
    layers = [eqx.nn.Linear(2, 2, use_bias=False, key=jax.random.key(0)), jax.nn.relu] * 3
    params = {"layers": layers, "hidden": optax.MaskedNode(), "steps": 3, "absent": None}
    described = describe(params, 0.01, coupling=dwd.CONSTANT)
    lines = str(described).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == [f"layers/{i}/weight" for i in (0, 2, 4)]
    assert lines[4] == "12 of 12 parameters decay, in 3 of 3 leaves"
    assert lines[5] == ("not trained, and not shown: 4 None, 1 masked out, 3 custom_jvp, 1 integer")
    assert len(lines) == 6
    assert len(described.rows) == 12
    assert "not shown" not in str(describe({"w": jnp.ones(2)}, 0.01))


def test_what_a_mask_may_have_missed_is_marked():
    layers = [(jnp.ones((2, 2)), jnp.ones(2)), (jnp.ones((2, 2)), jnp.ones(2))]
    described = describe(layers, 0.01, coupling=dwd.CONSTANT, mask=masks.without("bias"))
    lines = str(described).splitlines()
    assert [line.split()[0] for line in lines if line.endswith(" ?")] == ["0/1", "1/1"]
    assert (
        lines[-1] == "? no parameter is of the kind 'bias': perhaps these are; see masks.matching"
    )
    assert cells_end_with_a_question(described) == 2
    for mask in (masks.everything(), masks.matrices(), ~masks.matrices()):
        assert "?" not in str(describe(layers, 0.01, mask=mask))
    kept_out = describe(layers, 0.01, mask=masks.without("bias") & masks.matrices())
    assert "?" not in str(kept_out)


def cells_end_with_a_question(described):
    return sum(text.endswith(" ?") for text in Cells(described._repr_html_()).of("td"))


def test_the_rules_of_both_sides_are_shown():
    params = {"embed": {"embedding": jnp.ones((9, 2))}, "head": layer()}
    both = describe(params, 0.01, mask=masks.matrices() & masks.without("embedding"))
    assert [row.rule for row in both.rows] == [
        "matrix & embedding",
        "not a matrix & not embedding",
        "matrix & not embedding",
    ]
    nested = describe(
        params, 0.01, mask=~masks.matrices() | 0.5 * (masks.everything() & {"embed": 1, "head": 0})
    )
    assert [row.rule for row in nested.rows] == [
        "~matrix | (0.5 * (everything & mask tree))",
        "~not a matrix | (0.5 * (everything & mask tree))",
        "~matrix | (0.5 * (everything & mask tree))",
    ]
    assert [row.multiplier for row in nested.rows] == [0.5, 1.0, 0.0]


def test_a_long_model_is_shown_complete():
    params = {f"layer_{index}": jnp.ones(1000) for index in range(300)}
    text = str(describe(params, 0.01, coupling=dwd.CONSTANT))
    assert all(f"layer_{index} " in text for index in range(300))
    assert text.endswith("300,000 of 300,000 parameters decay, in 300 of 300 leaves")


@pytest.mark.parametrize(("c", "flagged"), [(0.999, False), (1.0, True), (2.5, True)])
def test_a_weight_that_would_be_overshot_is_flagged(c, flagged):
    described = describe({"w": jnp.ones(2)}, c)
    assert (f"{c:g} !" in str(described)) == flagged
    assert ("! fraction >= 1: one step removes the whole weight" in str(described)) == flagged
    assert (described.rows[0].half_life == 0) == flagged


class Cells(HTMLParser):
    """Text by tag; refuses tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.found.append((tag, ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        assert self.found[-1][0] == self.open[-1]
        self.found[-1] = (self.open[-1], self.found[-1][1] + data)

    def of(self, tag):
        return [text for found, text in self.found if found == tag]


def test_the_html_shows_what_the_text_shows():
    params = PARAMS | {"<script>&'x'": jnp.ones((1, 2))}
    described = describe(params, 1.5, mask=masks.matching((".*<script>.*", 0.25), (".*", 2.0)))
    cells = Cells(described._repr_html_())
    head, *lines = str(described).splitlines()
    assert cells.of("th") == head.split()
    columns = [head.index(word) for word in head.split()]
    spans = list(zip(columns, [*columns[1:], None], strict=True))
    shown = sum(row.trained for row in described.rows)
    text = [line[a:b].strip() for line in lines[:shown] for a, b in spans]
    assert cells.of("td") == text
    assert cells.of("p") == lines[shown:]
    assert "<script>&'x'" in text
    assert "3 !" in text
    assert "script" not in {tag for tag, _ in cells.found}


def test_a_weight_held_at_its_norm_is_not_said_to_overshoot_zero():
    params = {"bias": jnp.ones(2), "kernel": jnp.ones((2, 2))}
    full = {"coupling": dwd.CONSTANT, "mask": masks.matrices()}

    def shown(weight_decay, rule):
        return str(describe(params, weight_decay, rule=rule, **full))

    held = shown(1.0, dwd.rules.onto_norm())
    assert (
        held
        == """\
path    shape   dtype    parameters  multiplier  fraction  half-life  rule
bias    (2,)    float32  2           0           0         ∞          not a matrix
kernel  (2, 2)  float32  4           1           1 =       0          matrix
4 of 6 parameters decay, in 1 of 2 leaves
= fraction 1: held at its norm, to which every step returns it"""
    )
    capped = shown(1.0, dwd.rules.onto_norm(2.0, one_sided=True))
    assert "held within its norm" in capped
    assert "overshoots" not in capped
    # what is not held is still told: another rule, or more than all of the way
    for weight_decay, rule in (
        (1.0, dwd.rules.towards_zero()),
        (1.5, dwd.rules.onto_norm()),
        (1.0, dwd.rules.cautious(dwd.rules.onto_norm())),
    ):
        assert "overshoots zero" in shown(weight_decay, rule)
        assert "held" not in shown(weight_decay, rule)
    assert "held" not in shown(0.5, dwd.rules.onto_norm())


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library(library):
    params, kinds = LIBRARIES[library]()
    described = describe(params, 0.01, mask=masks.without("bias", "norm"))
    assert (
        describe(jax.eval_shape(lambda: params), 0.01, mask=masks.without("bias", "norm"))
        == described
    )
    rows = {row.path: row for row in described.rows if row.rule != "None: untouched"}
    sizes = {path: leaf.size for path, leaf in named_leaves(params)}
    assert {path: row.parameters for path, row in rows.items()} == sizes
    for path, kind in kinds.items():
        trains = kind in ("weight", "embedding")
        assert rows[path].fraction == 0.01 * trains
        assert rows[path].rule == ("not bias or norm" if trains else kind.split()[0])
    assert described.total == sum(sizes.values())
    assert described.decayed == sum(
        sizes[p] for p, k in kinds.items() if k in ("weight", "embedding")
    )


def test_the_rule_is_named_whatever_the_mask():
    def rules(mask):
        return [row.rule for row in describe(layer(), 0.1, mask=mask).rows]

    def heavy(params):
        return jax.tree.map(lambda p: p.size > 3, params)

    assert rules(masks.everything()) == ["everything", "everything"]
    assert rules(masks.matrices()) == ["not a matrix", "matrix"]
    assert rules(masks.without("bias")) == ["bias", "not bias"]
    assert rules(masks.matching((".*s", 0.0), (".*", 1.0))) == [".*s", ".*"]
    assert rules({"bias": False, "kernel": True}) == ["mask tree", "mask tree"]
    assert rules(heavy) == ["heavy(params)", "heavy(params)"]


def test_what_does_not_train_is_said_to_be_untouched():
    described = describe(MIXED | {"hidden": optax.MaskedNode(), "name": "relu"}, 0.1)
    shown = {row.path: (row.dtype, row.rule) for row in described.rows}
    assert shown == {
        "absent": ("", "None: untouched"),
        "flag": ("bool", "boolean: untouched"),
        "hidden": ("", "masked out: untouched"),
        "kernel": ("float32", "everything"),
        "key": ("key<fry>", "key: untouched"),
        "name": ("str", "str: untouched"),
        "old_key": ("uint32", "integer: untouched"),
        "steps": ("int32", "integer: untouched"),
    }
    assert (described.decayed, described.total) == (4, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((-0.1,), {}, ValueError, "weight_decay at 'bias' must be finite and >= 0"),
        (("0.1",), {}, TypeError, "weight_decay at 'bias' must be a real number"),
        ((0.1,), {"coupling": dwd.LR}, ValueError, "pass learning_rate="),
        ((0.1,), {"learning_rate": WARM_UP}, ValueError, "pass peak_learning_rate="),
        (
            (0.1,),
            {"learning_rate": WARM_UP, "coupling": dwd.LR},
            ValueError,
            "pass peak_learning_rate=",
        ),
        ((0.1,), {"learning_rate": -1.0}, ValueError, "learning_rate must be"),
        ((0.1,), {"mask": masks.matching(("x", 1.0))}, ValueError, "'x' matches no"),
        ((0.1,), {"mask": masks.matrices}, TypeError, r"call it, as in mask=masks.matrices\("),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        describe(layer(), *arguments, **options)


def test_a_description_is_frozen():
    described = describe(layer(), 0.1)
    assert hash(described) == hash(describe(layer(), 0.1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        described.rows = ()
