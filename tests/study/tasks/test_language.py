"""Text as a data set, character by character, and a transformer whose loss is computed once more in NumPy."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decoupled_wd.study.tasks.data import validated
from decoupled_wd.study.tasks.language import BATCH, LENGTH, from_text, transformer
from decoupled_wd.study.tasks.task import LOSS, task

SPLITS = ("train", "validation", "test")
NUMBERS = np.random.default_rng(0).integers(0, 26, 40 * LENGTH + 5)
TEXT = "".join(chr(97 + number) for number in NUMBERS)
MODEL = transformer(7, 6, width=8, heads=2)


@pytest.fixture
def text(tmp_path):
    def write(content, name="my text, 2nd.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_every_row_is_a_piece_of_the_text_with_what_follows_and_none_stands_twice(text):
    data = validated(from_text(text(TEXT)))
    assert (data.name, data.shape, data.num_classes) == ("my-text-2nd", (LENGTH, 1), 26)
    found = []
    for split in SPLITS:
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        rows = ["".join(chr(97 + int(number)) for number in row) for row in x]
        follows = [chr(97 + number) for number in y]
        found += [row + last for row, last in zip(rows, follows, strict=True)]
    pieces = [TEXT[i * LENGTH : (i + 1) * LENGTH + 1] for i in range(40)]
    assert sorted(found) == sorted(pieces)
    # an eighth each for validation and test
    assert [len(getattr(data, f"y_{split}")) for split in SPLITS] == [30, 5, 5]


def test_a_text_comes_out_the_same_every_time_and_sizes_are_upper_bounds(text):
    first, second = (from_text(text(TEXT), train_size=20, test_size=3) for _ in range(2))
    np.testing.assert_array_equal(first.x_train, second.x_train)
    assert [len(first.y_train), len(first.y_validation), len(first.y_test)] == [20, 5, 3]
    digest = hashlib.sha256(first.x_train.tobytes()).hexdigest()[:16]
    assert digest == "a7d0b3c248223cab"


def test_letters_of_any_alphabet_are_numbered(text):
    data = from_text(text("αβγ\N{GRINNING FACE}" * 300))
    assert data.num_classes == 4
    # the rows have 32 characters, so that all of them start alike
    assert np.unique(data.x_train[:, 0]).tolist() == [0.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"caf\xe9 " * 400, "is no text in UTF-8: byte 3 is 0xe9; write it anew in UTF-8"),
        ("a" * 4000, "a text must have two different characters or more, got 1; pass another"),
        ("", "a text must have two different characters or more, got 0; pass another"),
        (
            TEXT[:500],
            "a batch has 16 rows of 32 characters, and of its 500 characters 13 rows are left to "
            "train on; pass a text of 641 characters or more",
        ),
        (TEXT[:20], "of its 20 characters 0 rows are left to train on; pass a text of 641"),
    ],
)
def test_what_cannot_be_learned_is_refused_by_its_name(text, content, words):
    path = text(content)
    with pytest.raises(ValueError, match=r"my text, 2nd\.txt") as error:
        task(path, "transformer")
    assert words in str(error.value)


def test_the_shortest_text_that_is_named_is_learned(text):
    assert len(from_text(text(TEXT[:641])).y_train) >= BATCH
    with pytest.raises(ValueError, match="641 characters or more"):
        from_text(text(TEXT[:640]))


def test_the_transformer_learns_text_alone(text):
    with pytest.raises(ValueError, match="learns text, got dataset 'mnist1d'; pass 'topics'"):
        task("mnist1d", "transformer")
    with pytest.raises(ValueError, match="name must be one of mnist1d"):
        task("topics", "mlp")


def test_a_task_of_text_is_judged_by_its_loss_in_nats(text):
    learned = task(text(TEXT), "transformer")
    assert learned.name == "my-text-2nd, transformer"
    assert learned.metric is LOSS
    assert learned.metric.label == "test loss (nats)"
    # asked for again, a width is the same network
    assert learned.of_width(8) is learned.of_width(8)
    assert task("digits", "resnet").of_width is None


def norm(x, scale=1.0):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def logits(params, rows):
    """The transformer in NumPy, one row and one head at a time."""
    get = lambda *path: np.asarray(jax.tree_util.tree_reduce(lambda a, b: b, walk(params, path)))  # noqa: E731
    out = []
    for row in rows:
        x = get("embed", "embedding")[row] + get("position", "embedding")
        for b in range(2):
            y = norm(x, get("blocks", b, "norms", 0, "scale"))
            q, k, v = (y @ get("blocks", b, n, "kernel") for n in ("query", "key", "value"))
            heads = []
            for h in range(2):
                part = slice(4 * h, 4 * h + 4)
                scores = norm(q[:, part]) @ norm(k[:, part]).T / np.sqrt(4)
                scores[np.triu_indices(len(row), 1)] = -np.inf
                weight = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
                heads.append(weight @ v[:, part])
            x = x + np.concatenate(heads, 1) @ get("blocks", b, "out", "kernel")
            up = norm(x, get("blocks", b, "norms", 1, "scale")) @ get("blocks", b, "up", "kernel")
            x = x + np.maximum(up, 0) @ get("blocks", b, "down", "kernel")
        out.append(norm(x, get("norm", "scale")) @ get("head", "kernel"))
    return np.array(out)


def walk(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def cross_entropy(params, x, y):
    characters = np.concatenate([x, y[:, None]], axis=1).astype(int)
    each = logits(params, characters[:, :-1])
    log_p = each - np.log(np.exp(each).sum(-1, keepdims=True))
    return -np.mean(np.take_along_axis(log_p, characters[:, 1:, None], axis=-1))


def rows(seed, count):
    drawn = np.random.default_rng(seed).integers(0, 7, (count, 7))
    return drawn[:, :6].astype(np.float32), drawn[:, 6].astype(np.int32)


def test_the_loss_is_the_cross_entropy_of_every_next_character():
    params = MODEL.init(jax.random.key(0))
    x, y = rows(0, 5)
    expected = cross_entropy(params, x, y)
    assert float(MODEL.loss(params, x, y, jax.random.key(1))) == pytest.approx(expected, rel=1e-5)
    splits = {"validation": rows(1, 3), "test": rows(2, 2)}
    found = MODEL.evaluate(params, (x, y), splits)
    for name, split in splits.items():
        expected = cross_entropy(params, *split)
        assert float(found[f"{name}_error"]) == pytest.approx(expected, rel=1e-5)
    # of as many training rows as the largest split has
    assert float(found["train_loss"]) == pytest.approx(
        cross_entropy(params, x[:3], y[:3]), rel=1e-5
    )


@pytest.mark.slow
def test_queries_and_keys_have_no_scale():
    params = MODEL.init(jax.random.key(0))
    x, y = map(jnp.asarray, rows(0, 4))
    gradients = jax.grad(MODEL.loss)(params, x, y, jax.random.key(1))
    for name in ("query", "key"):
        weight, gradient = (tree["blocks"][0][name]["kernel"][...] for tree in (params, gradients))
        across = jnp.vdot(weight, gradient) / jnp.linalg.norm(weight) / jnp.linalg.norm(gradient)
        assert abs(float(across)) < 1e-3
