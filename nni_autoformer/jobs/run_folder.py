"""The folder of a run: one run each, never overwritten unless asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..experiment import current_trial
from ..files import read_json, write_json
from ..training.ranks import Ranks
from .session import describe_session

RUN_FILE = "run.json"


def place_of(output: str | Path) -> Path:
    """Where a run goes: the folder that the user names, or in an NNI trial a folder of the trial's own in
    it.
    """
    trial = current_trial()
    return Path(output) if trial is None else Path(output) / trial.id


class RunFolder:
    """A folder that holds one run: what it was told to do, and whether it is finished.

    Args:
        path: folder of the run; it need not exist yet.
        job: command of the run: 'train', 'search', 'retrain', ….
        config: what decides the run's result, as JSON values by flag. A resume must have the same.
    """

    def __init__(self, path: str | Path, job: str, config: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.job = job
        self.config = jsonable(config)
        self._sessions: list[dict[str, Any]] = []

    def open(self, *, resume: bool, overwrite: bool) -> bool:
        """Take the folder for this run; True when the run in it is finished already and asked to be resumed.

        Raises:
            ConfigError: the folder holds another run and neither flag was given, or a run that was told
                something else and should be resumed, or files that are no run; or it cannot be written.
        """
        if resume and overwrite:
            raise ConfigError("--resume and --overwrite exclude each other.")
        earlier = self._earlier()
        if earlier is not None and overwrite:
            shutil.rmtree(self.path)
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
        self._remove_torn()
        self._sessions.append(describe_session())
        self._write("running")
        return False

    def finish(self) -> None:
        """Say that the run is complete."""
        self._write("finished")

    def _remove_torn(self) -> None:
        """Remove what a kill in the middle of a write has left, see `files.replacing`."""
        for torn in self.path.rglob(".*.tmp"):
            torn.unlink(missing_ok=True)

    def _earlier(self) -> dict[str, Any] | None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--output {self.path} is a file; it should be a folder.")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return None
        if not (self.path / RUN_FILE).is_file():
            if all(torn.match(".*.tmp") for torn in self.path.iterdir()):
                return None  # killed while it wrote its first file
            raise ConfigError(
                f"--output {self.path} is not empty and holds no run of nni-autoformer; give a new or "
                "empty folder."
            )
        return read_json(self.path / RUN_FILE)

    def _require_same(self, earlier: Mapping[str, Any]) -> None:
        if earlier["job"] != self.job:
            raise ConfigError(f"{self.path} holds a run of '{earlier['job']}', not of '{self.job}'.")
        before_all, now_all = _flat(earlier["config"]), _flat(self.config)
        for key in sorted({*before_all, *now_all}):
            before, now = before_all.get(key), now_all.get(key)
            if before != now:
                raise ConfigError(
                    f"{self.path} cannot be resumed: {key} was {before} when the run began and is {now} now."
                )

    def _write(self, status: str) -> None:
        content = {
            "job": self.job,
            "status": status,
            "config": self.config,
            "sessions": self._sessions,
        }
        try:
            write_json(self.path / RUN_FILE, content)
        except OSError as error:
            raise ConfigError(f"--output {self.path} cannot be written: {error.strerror}.") from None


def run_once(
    folder: RunFolder, ranks: Ranks, work: Callable[[], Any], *, resume: bool, overwrite: bool
) -> bool:
    """Do the work of a run with all its ranks; False where the folder holds it finished already.

    Args:
        folder: folder of the run.
        ranks: this process among those of the run.
        work: what every rank does, or goes on with.
        resume, overwrite: what may become of a run that the folder holds, see `RunFolder.open`.

    Raises:
        ConfigError: as `RunFolder.open`, and whatever the work raises.
    """
    again = ranks.restarts > 0  # torchrun starts a failed run anew with the same command
    if ranks.on_main(lambda: folder.open(resume=resume or again, overwrite=overwrite and not again)):
        return False
    work()
    ranks.on_main(folder.finish)
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
