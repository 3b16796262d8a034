"""Wrong calls of the command and of what it reads and writes: rows for test_bad_input.py."""

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from commands import refused

from decoupled_wd import cli
from decoupled_wd.study import cli as study
from decoupled_wd.study.claims import verdicts
from decoupled_wd.study.report import page as report
from decoupled_wd.study.tasks import data, npz

# what is refused trains nothing and leaves nothing here
FOLDER = tempfile.gettempdir()
CONVERT = ("0.1", "--from", "torch", "--learning-rate", "3e-4")


def npz_file(change, **arrays):
    """A file like CIFAR-10's with some arrays replaced; `change` then makes another of its bytes."""
    usual = {"x_train": (9, 32, 32, 3), "y_train": 9, "x_test": (2, 32, 32, 3), "y_test": 2}
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    np.savez(content, **{k: rng.integers(0, 9, s, np.uint8) for k, s in usual.items()} | arrays)
    with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
        file.write(change(content.getvalue()))
    return file.name


def cifar(change=bytes, **arrays):
    path = npz_file(change, **arrays)
    try:
        return data.cifar10(path, validation_size=3)
    finally:
        Path(path).unlink()


def lie(content):
    return content.replace(b"(9, 32, 32, 3)", b"(99, 32, 32,3)")


def toy(**changes):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1], np.int32)
    usual = data.Dataset("toy", x, y, x, y, x, y, num_classes=2, shape=(3, 1))
    return data.validated(usual._replace(**changes))


def written(findings):
    options = {"configuration": {}, "command": "", "seconds": 1.0}
    return report.write(Path(FOLDER), findings=findings, table=[], **options)


def experiment(claim):
    return study.Experiment(claim, "digits", "mlp", print, 1.0)


WRONG = [
    # decoupled-wd convert
    (lambda: refused(cli.convert, "-1", *CONVERT[1:]), ValueError, ">= 0, got -1"),
    (lambda: refused(cli.convert, "-1e-3", *CONVERT[1:]), ValueError, ">= 0, got -1e-3"),
    (lambda: refused(cli.convert, "-.5E+2", *CONVERT[1:]), ValueError, ">= 0, got -.5E+2"),
    (lambda: refused(cli.convert, "-inf", *CONVERT[1:]), ValueError, ">= 0, got -inf"),
    (lambda: refused(cli.convert, "-nan", *CONVERT[1:]), ValueError, ">= 0, got -nan"),
    (lambda: refused(cli.convert, "nan", *CONVERT[1:]), ValueError, "a finite number, got 'nan'"),
    (lambda: refused(cli.convert, "inf", *CONVERT[1:]), ValueError, "a finite number, got 'inf'"),
    (lambda: refused(cli.convert, "1e400", *CONVERT[1:]), ValueError, "number, got '1e400'"),
    (lambda: refused(cli.convert, "0,1", *CONVERT[1:]), ValueError, "a number, got '0,1'"),
    (lambda: refused(cli.convert, "", *CONVERT[1:]), ValueError, "a number, got ''"),
    (lambda: refused(cli.convert, *CONVERT[1:]), ValueError, "required: weight_decay"),
    (lambda: refused(cli.convert, *CONVERT[:3]), ValueError, "required: --learning-rate"),
    (lambda: refused(cli.convert, *CONVERT[:4], "0"), ValueError, "must be finite and > 0"),
    (lambda: refused(cli.convert, *CONVERT[:4], "-3e-4"), ValueError, ">= 0, got -3e-4"),
    (lambda: refused(cli.convert, *CONVERT, "--steps", "0"), ValueError, "steps must be"),
    (lambda: refused(cli.convert, *CONVERT, "--steps", "1e999"), ValueError, "got '1e999'"),
    (lambda: refused(cli.convert, *CONVERT, "--steps", "ten"), ValueError, "--steps: must be a"),
    (lambda: refused(cli.convert, *CONVERT, "--epochs", "-1e1"), ValueError, ">= 0, got -1e1"),
    (lambda: refused(cli.convert, *CONVERT, "--batch-size", "8"), ValueError, "together"),
    (
        lambda: refused(cli.convert, "0.1", "--from", "Pytorch", *CONVERT[3:]),
        ValueError,
        "did you mean 'torch'",
    ),
    # the script
    (lambda: refused(cli.main), ValueError, "required: command"),
    (lambda: refused(cli.main, "decay"), ValueError, "invalid choice: 'decay'"),
    (lambda: refused(cli.main, "Study"), ValueError, "invalid choice: 'Study'"),
    # decoupled-wd study
    (
        lambda: refused(study.main, "--claims", "vi"),
        ValueError,
        "--claims vi: the profile default does not measure it; pass --profile full",
    ),
    (lambda: refused(study.main, "--claims", "i,vii"), ValueError, "--claims vii: the profile"),
    (lambda: refused(study.main, "--claims", "i,"), ValueError, "got ''; all are those"),
    (lambda: refused(study.main, "--claims", "II"), ValueError, "got 'II'"),
    (lambda: refused(study.main, "--claims", "i ii"), ValueError, "got 'i ii'"),
    (lambda: refused(study.main, "--claims", "all,i"), ValueError, "got 'all'"),
    (lambda: refused(study.main, "--profile", "Full"), ValueError, "invalid choice: 'Full'"),
    (lambda: refused(study.main, "results"), ValueError, "unrecognized arguments: results"),
    (lambda: refused(study.main, "--out"), ValueError, "--out: expected one argument"),
    (lambda: refused(study.main, "--out", "-x"), ValueError, "--out: expected one argument"),
    (lambda: refused(study.main, "--out", ""), ValueError, "got '', which names no folder"),
    (lambda: refused(study.main, "--out", "  "), ValueError, "which names no folder"),
    (lambda: refused(study.main, "--out", "s3://bucket/x"), ValueError, "the URL 's3://bucket/x'"),
    (lambda: refused(study.main, "--out", "file:///tmp"), ValueError, "the URL 'file:///tmp'"),
    (lambda: refused(study.main, "--out", "a\nb"), ValueError, r"can be printed, got 'a\nb'"),
    (lambda: refused(study.main, "--out", "\x1b[2J"), ValueError, r"can be printed, got '\x1b[2J'"),
    (lambda: refused(study.main, "--out", "\udcff"), ValueError, r"can be printed, got '\udcff'"),
    (lambda: refused(study.main, "--out", "/dev/null"), ValueError, "is not a folder to write to"),
    (
        lambda: refused(study.main, "--out", "/dev/null/a"),
        ValueError,
        "is not a folder to write to",
    ),
    (
        lambda: refused(study.main, "--out", FOLDER + "/" + 300 * "a"),
        ValueError,
        "is not a folder to write to (File name too long)",
    ),
    (
        lambda: refused(study.main, "--distributed", "--out", FOLDER),
        ValueError,
        "--distributed found no other processes",
    ),
    # reports
    (lambda: written([]), ValueError, "findings has no verdict"),
    (lambda: written([(experiment("i"), verdicts.Finding([], {}))]), ValueError, "has no verdict"),
    (
        lambda: written([(experiment("xx"), verdicts.Finding([], {}))]),
        ValueError,
        "has the claims ['xx']",
    ),
    # data sets
    (lambda: toy(num_classes=1), ValueError, "y_train[1] is 1; labels must be in 0…0"),
    (lambda: toy(y_test=np.array([0, 2], np.int32)), ValueError, "toy: y_test[1] is 2"),
    (lambda: toy(y_test=np.array([0.0, 1.0])), ValueError, "y_test must be int32 [2]"),
    (lambda: toy(x_test=np.full((2, 3), np.inf, np.float32)), ValueError, "x_test[0, 0] is inf"),
    (lambda: data.load("cifar10"), ValueError, "name must be one of mnist1d, digits"),
    (lambda: data.mnist1d(train_size=15, validation_size=10), ValueError, "got 15, 10 and 4000"),
    (lambda: cifar(lie), ValueError, "x_train cannot be read (its header promises 304"),
    (lambda: cifar(lambda content: content[9:]), ValueError, "x_train cannot be read"),
    (lambda: cifar(lambda content: content[:999]), ValueError, "x_train cannot be read"),
    (lambda: cifar(lambda content: b""), ValueError, "x_train cannot be read"),
    (
        lambda: cifar(x_test=np.zeros((2, 3072), np.uint8)),
        ValueError,
        "x_test must be uint8 [n, 32",
    ),
    (lambda: cifar(x_test=np.zeros((2, 32, 32, 3))), ValueError, "got float64 [2, 32, 32, 3]"),
    (lambda: cifar(y_test=np.array(["cat", "dog"])), ValueError, "y_test must be integers [2]"),
    (lambda: cifar(y_test=np.array([{}, {}])), ValueError, "it holds Python objects"),
    (lambda: cifar(y_test=np.array([0, 99])), ValueError, "y_test[1] is 99; labels must be in 0…9"),
    (lambda: cifar(y_train=np.zeros(8, int)), ValueError, "y_train must be integers [9] or [9, 1]"),
    (lambda: npz.header(zipfile.__file__, "x"), ValueError, "x cannot be read (File is not a zip"),
]
