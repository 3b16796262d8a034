"""Where a study lies, and who works on it."""

import json
import os
import socket
import sys
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from decoupled_wd.study.grid.locks import take

WORKER = "worker"
"""The attribute of a trial that names the process which trains it."""
SEARCH = "search"
"""The attribute of a study that tells what is searched."""
START = uuid.uuid4().hex
"""What tells this process from earlier ones of the same number."""
TRIES = 3
"""How often a database is asked for."""
SYNCED = 1.0
"""Seconds between two waits for the disk that a journal is on."""


def storage_of(storage: object) -> optuna.storages.BaseStorage | None:
    """Returns the storage in which Optuna keeps the trials.

    None stands for memory, a path for a journal file, and a URL for a database.

    Raises:
      ValueError: the storage cannot be reached.
      TypeError: the argument is none of these.

    Examples:
      >>> storage_of(None) is None
      True
    """
    if storage is None or isinstance(storage, optuna.storages.BaseStorage):
        return storage
    if not isinstance(storage, str | os.PathLike) or not os.fspath(storage):
        raise TypeError(
            f"storage must be a journal file, a database's URL or a storage of Optuna, got "
            f"{storage!r}; pass for example 'trials.log'"
        )
    where = os.fspath(storage)
    remedy = "pass the path of a file, or a URL such as postgresql+psycopg://user@host/name"
    try:
        if "://" in str(where):
            return _database(str(where))
        # opened for appending: what cannot be written is told now
        Path(where).open("ab").close()
        _check_journal(Path(where))
        return optuna.storages.JournalStorage(_Journal(Path(where)))
    except (SQLAlchemyError, ImportError, OSError) as error:
        why = str(error).strip().splitlines()[0]
        raise ValueError(
            f"storage {without_password(where)} cannot be reached ({why}); {remedy}"
        ) from error


def study_of(
    storage: optuna.storages.BaseStorage | None,
    name: str,
    search: str,
    metric: str,
) -> optuna.Study:
    """Returns the study of this name, and makes it if it is not there.

    Other processes may work on it. Trials that a process of this host left when it ended are marked
    as failed, since their states went with it.

    Raises:
      ValueError: the study of this name is of another search, or of another program.
    """
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    known = study.user_attrs.get(SEARCH)
    is_new = study.directions == [StudyDirection.MINIMIZE] and not study.get_trials(
        deepcopy=False, states=[state for state in TrialState if state is not TrialState.WAITING]
    )
    if known is None and not is_new:
        raise ValueError(
            f"storage holds the study {name!r}, which tune did not make: it maximises, or has "
            "trials; pass another study_name or storage"
        )
    if known is None:
        study.set_user_attr(SEARCH, search)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([metric])
    elif known != search:
        raise ValueError(
            f"storage holds the study {name!r} of another search: its model, data, space or "
            "epochs differ; pass another study_name or storage"
        )
    elif study.metric_names not in (None, [metric]):
        raise ValueError(
            f"storage holds the study {name!r}, which was chosen by {study.metric_names[0]!r} and "
            f"not by {metric!r}; pass the same choose_by, or another study_name or storage"
        )
    fail_lost(study)
    return study


def fail_lost(study: optuna.Study) -> None:
    """Marks as failed the trials that killed processes of this host left.

    A process that is killed while it draws a trial leaves it without its name. Such a trial counts
    as lost a day later.
    """
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        host, process, start = (*trial.user_attrs.get(WORKER, "").split(" "), "", "")[:3]
        killed = host == socket.gethostname() and not _lives(int(process), start)
        # Optuna notes the time of the trial's own host, in whichever zone that is
        age = datetime.now() - (trial.datetime_start or datetime.now())
        if killed or (not host and age > timedelta(days=1)):
            # another process may have done so in the meantime
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def worker() -> str:
    """Names this process among those of all hosts and times."""
    return f"{socket.gethostname()} {os.getpid()} {START}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna's log of single trials off the terminal."""
    before = optuna.logging.get_verbosity()
    # whoever wants to hear less still does
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def without_password(where: str) -> str:
    """Returns a storage as it may be printed.

    Examples:
      >>> without_password("postgresql://me:secret@host/name")
      'postgresql://me@host/name'
    """
    scheme, separator, rest = str(where).partition("://")
    account, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{account.partition(':')[0]}{at}{host}" if separator else where


class _Lock(JournalFileOpenLock):
    """Locks a journal, for as long as its process lives at most.

    The operating system drops the lock with the process that holds it. Optuna's own locks are files
    that a killed process leaves behind, and all others would wait for it.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.handle = file, -1

    def acquire(self) -> bool:
        handle = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
        while True:
            try:
                take(handle)
            # another process writes, for about a millisecond
            except (BlockingIOError, PermissionError):
                time.sleep(1e-3)
            else:
                self.handle = handle
                return True

    def release(self) -> None:
        os.close(self.handle)


class _Journal(JournalFileBackend):
    """A journal that seldom waits for the disk.

    Optuna's waits after every line, of which a trial has a dozen: of short trainings that was most
    of the time. What a killed process wrote is there all the same, and a loss of power takes the
    last second.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.lock, self.synced = file, _Lock(Path(f"{file}-lock")), -SYNCED
        super().__init__(str(file), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self.lock.acquire()
        try:
            with self.file.open("ab") as journal:
                journal.write(lines.encode())
                journal.flush()
                if time.monotonic() - self.synced > SYNCED:
                    os.fsync(journal.fileno())
                    self.synced = time.monotonic()
        finally:
            self.lock.release()


def _check_journal(file: Path) -> None:
    """Refuses a file of something else, before anything is written to it."""
    with file.open("rb") as lines:
        first = lines.readline(4096)
    try:
        is_journal = not first or "op_code" in json.loads(first)
    # text that is no JSON, bytes that are no text, or JSON that holds nothing
    except (ValueError, TypeError):
        is_journal = False
    if not is_journal:
        raise ValueError(
            f"storage {file} is no journal of Optuna; pass the path of a new file, or the URL of a "
            f"database, such as sqlite:///{file}"
        )


def _database(url: str) -> optuna.storages.RDBStorage:
    for _ in range(TRIES - 1):
        try:
            return optuna.storages.RDBStorage(url)
        # of processes that start together one makes the tables, and the others fail to
        except DBAPIError:
            time.sleep(0.5)
    return optuna.storages.RDBStorage(url)


def _lives(process: int, start: str) -> bool:
    # a container that starts again gives its processes the same numbers
    if process == os.getpid():
        return start == START
    # there the signal 0 is Ctrl-C
    if sys.platform == "win32":
        return True
    try:
        # signal 0 is sent to nobody, and asks whether the process is there
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # it is another user's
    except PermissionError:
        return True
    return True
