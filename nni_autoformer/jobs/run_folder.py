"""The folder of a run: one run each, one owner at a time, and an old run is given up only for a new one that
has something to show.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..config import shown
from ..errors import ConfigError
from ..experiment import current_trial
from ..files import read_json, real_path, write_json
from ..training.ranks import Ranks
from .old_run import RUN_FILE, holds_run, set_aside, settle
from .reads import Reads
from .session import describe_session

LOCK_FILE = ".lock"
OWNER_FILE = ".owner.json"
ORPHANS = 30.0
"""Seconds that the loading processes of a killed run may take to notice it; until then they hold its lock."""


def place_of(output: str | Path) -> Path:
    """Where a run goes: the folder that the user names, or in an NNI trial a folder of the trial's own in
    it.
    """
    trial = current_trial()
    return Path(output) if trial is None else Path(output) / trial.id


MOST_LINKS = 40
"""Links that are followed one after the other; systems follow no more."""


REMOVED = {
    "racing": "it was started with --racing, which this version does not have; finish it with the version "
    "that began it, or start anew with --overwrite"
}
"""Settings of earlier versions, and what to say of a run that used them."""


class RunFolder:
    """A folder that holds one run: what it was told to do, on what, and whether it is finished.

    Args:
        path: folder of the run; it need not exist yet.
        job: command of the run: 'train', 'search', 'retrain', ….
        config: what decides the run's result, as JSON values by flag. A resume must have the same.
        reads: images and files that the run reads, by what they are to it. A resume must find the same
            contents, where the run has recorded them.
        inputs: files and folders that the run reads, which must not lie in a folder that it replaces.
        defaults: values of `config` that earlier versions did not write, by the same keys.
    """

    def __init__(
        self,
        path: str | Path,
        job: str,
        config: Mapping[str, Any],
        reads: Mapping[str, Reads] | None = None,
        inputs: Iterable[str | Path | None] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.job = job
        self.config, self.defaults = jsonable(config), jsonable(defaults or {})
        self.reads = dict(reads or {})
        self._contents: dict[str, Any] = {}
        self.inputs = [Path(entry) for entry in inputs if entry is not None and Path(entry).exists()]
        self._sessions: list[dict[str, Any]] = []
        self._lock: FileLock | None = None

    def open(self, *, resume: bool, overwrite: bool) -> bool:
        """Take the folder for this run; True when the run in it is finished already and asked to be resumed.

        Raises:
            ConfigError: another process works in the folder; it holds another run and neither flag was
                given, or a run that was told something else, on other data, and should be resumed, or files
                that are no run; an input would be deleted; it cannot be written.
        """
        if resume and overwrite:
            raise ConfigError("--resume and --overwrite exclude each other.")
        self._require_own()
        try:
            self._take()
            return self._open(resume, overwrite)
        except OSError as error:
            self.close()
            raise ConfigError(f"--output {self.path} cannot be written: {error.strerror}.") from None
        except BaseException:
            self.close()
            raise

    def _open(self, resume: bool, overwrite: bool) -> bool:
        settle(self.path)
        earlier = self._earlier()
        if earlier is not None and overwrite:
            self._require_inputs_elsewhere()
            set_aside(self.path)
            earlier = None
        if earlier is not None:
            finished = earlier["status"] == "finished"
            if not resume:
                state = "a finished" if finished else "an unfinished"
                way = "" if finished else "continue it with --resume, or "
                raise ConfigError(
                    f"{self.path} holds {state} run of '{earlier['job']}': {way}replace it with "
                    "--overwrite, or give another --output."
                )
            self._require_same(earlier)
            if finished:
                return True
            self._sessions = list(earlier.get("sessions", []))
            self._contents = dict(earlier.get("contents", {}))
        self._contents |= {
            name: entry.record() for name, entry in self.reads.items() if name not in self._contents
        }
        self._remove_torn()
        self._sessions.append(describe_session())
        self._write("running")
        return False

    def finish(self) -> None:
        """Say that the run is complete."""
        self._write("finished")

    def close(self) -> None:
        """Let the folder go; an old run that was to be replaced comes back if the new one has no result."""
        if self._lock is None:
            return
        with contextlib.suppress(OSError):  # the next run puts it right
            settle(self.path)
        with contextlib.suppress(OSError):
            (self.path / OWNER_FILE).unlink(missing_ok=True)
        self._lock.release()
        self._lock = None

    # One owner

    def _take(self) -> None:
        """Lock the folder.

        Raises:
            ConfigError: another process has it; the sentence names the process.
        """
        lock = FileLock(self.path / LOCK_FILE)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                owner = self._owner()
                if not _is_dead(owner):
                    raise ConfigError(
                        f"--output {self.path}: another process works in this folder ({_told(owner)}); wait "
                        "for its end, or give another --output."
                    ) from None
                lock.acquire(timeout=ORPHANS)
        except Timeout:
            raise ConfigError(
                f"--output {self.path}: processes of a killed run still hold the folder."
            ) from None
        except OSError as error:
            raise ConfigError(f"--output {self.path} cannot be written: {error.strerror}.") from None
        self._lock = lock
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._save(OWNER_FILE, {"process": os.getpid(), "machine": platform.node(), "started": started})

    def _owner(self) -> dict[str, Any]:
        try:
            content = json.loads((self.path / OWNER_FILE).read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
        except (OSError, ValueError):
            return {}

    # The old run

    def _require_inputs_elsewhere(self) -> None:
        place = real_path(self.path)
        for entry in self.inputs:
            if any(place in part.parents for part in _along_links(entry)):
                raise ConfigError(
                    f"--overwrite would delete {entry}, which this run reads and which lies in --output "
                    f"{self.path}; give another --output."
                )

    def _remove_torn(self) -> None:
        """Remove what a kill in the middle of a write has left, see `files.replacing`."""
        for torn in self.path.rglob(".*.tmp"):
            torn.unlink(missing_ok=True)

    # What the folder holds

    def _require_own(self) -> None:
        """Make the folder, or check that it is empty or holds a run."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise ConfigError(f"--output {self.path} is a file; it should be a folder.")
            self.path.mkdir(parents=True, exist_ok=True)
            entries = [entry for entry in self.path.iterdir() if entry.name not in (LOCK_FILE, OWNER_FILE)]
        except OSError as error:
            raise ConfigError(f"--output {shown(self.path)} cannot be written: {error.strerror}.") from None
        known = holds_run(self.path)
        # torn files alone: killed while it wrote its first
        if not known and not all(entry.match(".*.tmp") for entry in entries):
            raise ConfigError(
                f"--output {self.path} is not empty and holds no run of nni-autoformer; give a new or "
                "empty folder."
            )

    def _earlier(self) -> dict[str, Any] | None:
        return read_run(self.path / RUN_FILE) if (self.path / RUN_FILE).is_file() else None

    def _require_same(self, earlier: Mapping[str, Any]) -> None:
        if earlier["job"] != self.job:
            raise ConfigError(f"{self.path} holds a run of '{earlier['job']}', not of '{self.job}'.")
        before_all = {**_flat(self.defaults), **_flat(earlier["config"])}
        now_all = _flat(self.config)
        for key in sorted({*before_all, *now_all}):
            before, now = before_all.get(key), now_all.get(key)
            if before != now and key in REMOVED:
                raise ConfigError(f"{self.path} cannot be resumed: {REMOVED[key]}.")
            if before != now:
                raise ConfigError(
                    f"{self.path} cannot be resumed: {key} was {shown(before)} when the run began and is "
                    f"{shown(now)} now."
                )
        if earlier["status"] == "finished":
            return
        for name, before in earlier.get("contents", {}).items():
            where = f"{self.path / RUN_FILE}: contents.{name}"
            if name in self.reads and (changes := self.reads[name].changes(before, where)):
                raise ConfigError(
                    f"{self.path} cannot be resumed: since the run began the {name} changed: "
                    f"{', '.join(changes)}. Put it back as it was, or start anew with --overwrite."
                )

    def _write(self, status: str) -> None:
        content = {
            "job": self.job,
            "status": status,
            "config": self.config,
            "contents": self._contents,
            "sessions": self._sessions,
        }
        self._save(RUN_FILE, content)

    def _save(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            write_json(self.path / name, content)
        except OSError as error:
            raise ConfigError(f"--output {shown(self.path)} cannot be written: {error.strerror}.") from None


def read_run(path: Path) -> dict[str, Any]:
    """The content of a `run.json`.

    Raises:
        ConfigError: it is not as this package writes it.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: the file should hold keys with values.")
    wanted = {"job": (str, "text"), "status": (str, "text"), "config": (dict, "keys with values")}
    wanted |= {"contents": (dict, "keys with values"), "sessions": (list, "a list")}
    for key, (kind, words) in wanted.items():
        optional = key in ("contents", "sessions") and key not in content
        if not optional and not isinstance(content.get(key), kind):
            raise ConfigError(f"{path}: {key} is {shown(repr(content.get(key)))}; it should be {words}.")
    if content["status"] not in ("running", "finished"):
        raise ConfigError(f"{path}: status is {shown(content['status'])}; it should be running or finished.")
    return content


def _along_links(path: Path) -> Iterator[Path]:
    """The whole path of a file, and where the links that lead to it lie."""
    for _ in range(MOST_LINKS):
        yield (path := real_path(path.parent) / path.name)
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    yield real_path(path)


def _is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the process that took the lock has ended, as far as that can be known here."""
    number = owner.get("process")
    if owner.get("machine") != platform.node() or not isinstance(number, int):
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _told(owner: Mapping[str, Any]) -> str:
    if not owner:
        return "it has left no name"
    return f"process {owner.get('process')} on {owner.get('machine')}, since {owner.get('started')}"


def run_once(
    folder: RunFolder,
    ranks: Ranks,
    work: Callable[[], Any],
    *,
    resume: bool,
    overwrite: bool,
    last: Callable[[], Any] | None = None,
) -> bool:
    """Do the work of a run with all its ranks; False where the folder holds it finished already.

    Args:
        folder: folder of the run.
        ranks: this process among those of the run.
        work: what every rank does, or goes on with.
        resume, overwrite: what may become of a run that the folder holds, see `RunFolder.open`.
        last: what the main process does when all are done, before the run counts as finished.

    Raises:
        ConfigError: as `RunFolder.open`, and whatever the work raises.
    """
    # torchrun starts a failed run anew with the same command, as NNI does with a stopped trial; it counts the
    # restarts of each machine
    again = any(ranks.gathered(ranks.restarts)) or current_trial() is not None
    try:
        if ranks.on_main(lambda: folder.open(resume=resume or again, overwrite=overwrite and not again)):
            return False
        work()
        if last is not None:
            ranks.on_main(last)
        ranks.on_main(folder.finish)
    finally:
        folder.close()
    return True


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def jsonable(value: Any) -> Any:
    """A value as it comes back from JSON: tuples as lists, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
