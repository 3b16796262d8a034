"""A search that goes on, that several processes share, and that outlives any of them."""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
import tune_worker
from optuna.trial import TrialState
from tune_worker import search

from decoupled_wd.study.tune.storages import (
    WORKER,
    fail_lost,
    quiet,
    storage_of,
    study_of,
    worker,
)

PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
WORKER_FILE = Path(tune_worker.__file__)


def study_in(storage):
    with quiet():
        return optuna.load_study(study_name="tune", storage=storage_of(storage))


def trials_in(url):
    """The trials in a database, with its connections closed."""
    storage = storage_of(url)
    with quiet():
        trials = optuna.load_study(study_name="tune", storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    return trials


def test_the_same_call_goes_on_with_the_trials_that_are_there(tmp_path):
    storage = tmp_path / "trials.log"
    first = search(storage, 20)
    known = [(trial.number, trial.params, trial.values) for trial in first.study.trials]
    study_in(storage).ask()
    seen = []
    second = search(storage, 20, progress=seen.append)
    trials = [(trial.number, trial.params, trial.values) for trial in second.study.trials]
    assert trials[: len(known)] == known
    # what nobody trains any more has not ended
    counted = [each.trials for each in seen]
    assert counted[0] == len(known) + 1
    assert counted == sorted(counted)
    assert counted[-1] == len(trials) - 1
    assert len(trials) > len(known) + 10
    assert second.study.best_value <= first.study.best_value


def test_another_search_is_not_mixed_with_it(tmp_path):
    storage = tmp_path / "trials.log"
    search(storage, 12)
    before = [trial.params for trial in study_in(storage).trials]
    with pytest.raises(ValueError, match="study 'tune' of another search: its model, data, space"):
        search(storage, 12, evaluate_every=4)
    assert [trial.params for trial in study_in(storage).trials] == before
    assert len(search(storage, 12, evaluate_every=4, study_name="other").study.trials) > 2


@pytest.mark.parametrize(("direction", "tried"), [("maximize", 0), ("minimize", 1)])
def test_a_study_of_another_program_is_not_mixed_with_it(direction, tried):
    storage = optuna.storages.InMemoryStorage()
    other = optuna.create_study(storage=storage, study_name="tune", direction=direction)
    for _ in range(tried):
        other.tell(other.ask(), 1.0)
    with pytest.raises(ValueError, match="study 'tune', which tune did not make: it maximises, or"):
        study_of(storage, "tune", "a fingerprint", "error")
    assert other.user_attrs == {}


def test_trials_that_wait_in_a_study_are_taken():
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="tune").enqueue_trial({"rate": 0.5})
    assert study_of(storage, "tune", "a fingerprint", "error").ask().number == 0


def test_trials_of_a_process_that_ended_are_failed_and_no_others():
    study = optuna.create_study()
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    here, gone = socket.gethostname(), int(ended.stdout)
    # in a container that starts again, an earlier process had the same number
    before = f"{here} {os.getpid()} {'0' * 32}"
    for owner in (f"{here} {gone}", before, worker(), f"elsewhere {gone}"):
        study.ask().set_user_attr(WORKER, owner)
    study.ask()
    fail_lost(study)
    lost, kept = [TrialState.FAIL] * 2, [TrialState.RUNNING] * 3
    assert [trial.state for trial in study.trials] == lost + kept


def test_on_windows_nobody_is_signalled(monkeypatch):
    """There ``os.kill(number, 0)`` sends Ctrl-C."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", None)
    study = optuna.create_study()
    study.ask().set_user_attr(WORKER, f"{socket.gethostname()} 1 {'0' * 32}")
    fail_lost(study)
    assert study.trials[0].state == TrialState.RUNNING


@pytest.mark.parametrize(("hours", "state"), [(23, TrialState.RUNNING), (25, TrialState.FAIL)])
def test_a_trial_that_was_never_named_is_failed_a_day_later(hours, state):
    study = optuna.create_study()
    trial = optuna.trial.create_trial(state=TrialState.RUNNING)
    trial.datetime_start = datetime.now() - timedelta(hours=hours)
    study.add_trial(trial)
    fail_lost(study)
    assert [trial.state for trial in study.trials] == [state]


def test_a_process_that_is_killed_while_it_writes_locks_nobody_out(tmp_path):
    storage = storage_of(tmp_path / "trials.log")
    lock = f"{tmp_path / 'trials.log-lock'!s}"
    held = "import os, sys; from decoupled_wd.study.grid.locks import take; "
    held += f"take(os.open({lock!r}, os.O_RDWR | os.O_CREAT)); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", held], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with quiet():
        assert optuna.create_study(storage=storage).trials == []


def test_a_journal_holds_every_line_and_seldom_waits_for_the_disk(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(os, "fsync", waits.append)
    storage = storage_of(tmp_path / "trials.log")
    with quiet():
        study = optuna.create_study(storage=storage, study_name="tune")
    for _ in range(20):
        study.tell(study.ask({"rate": optuna.distributions.FloatDistribution(0, 1)}), 1.0)
    assert study_in(tmp_path / "trials.log").trials == study.trials
    assert 1 <= len(waits) < 20


@pytest.mark.parametrize(
    "text", [b"notes", b'{\n "rate": 1\n}\n', b"[1]\n", b"3", b"SQLite \xff\n"]
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, text):
    file = tmp_path / "notes.txt"
    file.write_bytes(text)
    with pytest.raises(ValueError, match=r"notes\.txt is no journal of Optuna; pass the path of a"):
        storage_of(file)
    assert file.read_bytes() == text
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_values_of_two_metrics_are_not_mixed():
    storage = optuna.storages.InMemoryStorage()
    for _ in range(2):
        study_of(storage, "tune", "a fingerprint", "validation_error")
    with pytest.raises(
        ValueError, match="chosen by 'validation_error' and not by 'test_error'; pas"
    ):
        study_of(storage, "tune", "a fingerprint", "test_error")


def test_a_new_study_remembers_its_search():
    study = study_of(None, "tune", "a fingerprint", "error")
    assert study.user_attrs == {"search": "a fingerprint"}


def started(storage, runs, count):
    command = [sys.executable, str(WORKER_FILE), str(storage), str(runs)]
    return [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(count)]


def finished(process):
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return json.loads(printed)


@pytest.mark.slow
def test_four_processes_share_a_study_and_one_is_killed(tmp_path):
    storage = tmp_path / "trials.log"
    victim, *others = started(storage, 60, 4)

    def its_trials():
        if not storage.exists() or b"tune" not in storage.read_bytes():
            return []
        mine = f"{socket.gethostname()} {victim.pid} "
        trials = study_in(storage).trials
        return [t for t in trials if t.user_attrs.get(WORKER, "").startswith(mine)]

    while len(its_trials()) < 12:
        assert victim.poll() is None, victim.communicate()
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    # at most what was in its slots is lost
    done = [trial for trial in its_trials() if trial.state.is_finished()]
    lost = [trial.number for trial in its_trials() if not trial.state.is_finished()]
    assert len(lost) <= 8
    results = [finished(process) for process in others]
    trials = study_in(storage).trials
    assert [trial.number for trial in trials] == [*range(len(trials))]
    assert {t.state for t in trials if t.number in lost} <= {TrialState.RUNNING, TrialState.FAIL}
    known = {trial.number: trial.values for trial in trials}
    assert {trial.number: trial.values for trial in done}.items() <= known.items()
    # a process that is killed while it draws a trial has not named it
    unnamed = [trial.number for trial in trials if WORKER not in trial.user_attrs]
    assert len(unnamed) <= 1
    assert len({trial.user_attrs.get(WORKER) for trial in trials} - {None}) == 4
    # Optuna counts its quasi-random points without a lock, and may give one twice
    assert len({trial.params.get("rate") for trial in trials}) >= len(trials) - 16
    assert all(0.1 < result["best"]["rate"] < 4 for result in results)
    # the next process to start fails what the killed one left
    search(storage, 10)
    left = [trial.number for trial in study_in(storage).trials if not trial.state.is_finished()]
    assert set(left) <= set(unnamed)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """The URL of a database server of Debian's package, which does not run as root."""
    if not PROGRAMS:
        pytest.skip("needs PostgreSQL's programs in /usr/lib/postgresql, as from Debian's package")
    pytest.importorskip("psycopg")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if as_user and not shutil.which("runuser"):
        pytest.skip("needs runuser to start PostgreSQL from root")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # a folder that another user can reach
    made = [*as_user, "mktemp", "-d", "/tmp/decoupled-wd-postgres-XXXXXX"]
    folder = subprocess.run(made, check=True, stdout=-1, text=True).stdout.strip()

    def run(program, *arguments):
        command = [*as_user, f"{PROGRAMS[-1]}/{program}", "-D", f"{folder}/data", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    try:
        run("initdb", "-A", "trust", "-U", "tuner", "-E", "UTF8")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
        run("pg_ctl", "-m", "immediate", "stop")
    finally:
        subprocess.run([*as_user, "rm", "-r", folder], check=True)


@pytest.mark.slow
def test_two_processes_share_a_study_in_postgresql(postgres):
    results = [finished(process) for process in started(postgres, 16, 2)]
    assert all(0.01 < result["best"]["rate"] < 10 for result in results)
    trials = trials_in(postgres)
    assert len({trial.user_attrs[WORKER] for trial in trials}) == 2
    assert all(trial.state.is_finished() for trial in trials)
    steps = sum(trial.user_attrs["steps"] for trial in trials)
    assert steps + 2 * 2 * 4 * 32 == sum(result["steps"] for result in results)
    (again,) = started(postgres, 12, 1)
    finished(again)
    assert [trial.params for trial in trials_in(postgres)][: len(trials)] == [
        trial.params for trial in trials
    ]
    assert len(trials_in(postgres)) > len(trials)
