"""What NNI takes of this machine: the list of experiments in the user's home, and a port. Corrections in the
form of those in `fixes`; `tests/experiment/test_hosting.py` fails when one is no longer needed.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from pathlib import Path
from typing import Any

from ..errors import ConfigError

PATIENCE = 30.0
"""Seconds that NNI's server may take until it listens."""

LIST_FILE = ".experiment"
"""NNI's list of experiments, below `nni-experiments` in the user's home."""


@functools.cache
def apply() -> None:
    """Put the corrections of how NNI starts an experiment in place; doing it twice does nothing."""
    _lock_of_the_list()
    _own_server()


def in_process_runs() -> None:
    """`nni/nas/experiment/experiment.py`, `_start_without_nni_manager` and `_stop_without_nni_manager`, and
    `nni/experiment/experiment.py`, `has_checkpoint`.

    Without it: a NAS experiment that runs in this process, and so has neither a server nor a page, enters
    NNI's list of experiments as "Name: None, Port: N/A". After that `nnictl top`, `experiment show` and
    `trial ls` refuse to choose among the running experiments, and a killed one stays there as running. Such
    an experiment is found by the file that NNI resumes it from instead.
    """
    from nni.nas.experiment import NasExperiment

    @functools.wraps(NasExperiment.has_checkpoint)
    def has_checkpoint(self: Any) -> bool:
        return (self._checkpoint_directory / "config.json").is_file()

    for name in ("_start_without_nni_manager", "_stop_without_nni_manager"):
        replaced = functools.wraps(getattr(NasExperiment, name))(lambda self: None)
        setattr(NasExperiment, name, replaced)
    NasExperiment.has_checkpoint = has_checkpoint


def _lock_of_the_list() -> None:
    """`nni/tools/nnictl/common_utils.py`, `SimplePreemptiveLock._acquire`.

    Without it: where the lock beside the list of experiments cannot be made, in a home folder that may not be
    written or on a full disk, NNI tries again for ever and says nothing.
    """
    from nni.tools.nnictl.common_utils import SimplePreemptiveLock

    original = SimplePreemptiveLock._acquire

    @functools.wraps(original)
    def _acquire(self: Any) -> None:
        original(self)
        if getattr(self, "_lock_file_fd", None) is not None:
            return
        require_writable(Path(self._lock_file_name).parent)

    SimplePreemptiveLock._acquire = _acquire


def require_writable(folder: Path) -> None:
    """Check that NNI can keep its list of experiments in a folder.

    Raises:
        ConfigError: no file can be made in it, or the list itself may not be written.
    """
    probe = folder / f".nni_autoformer.{os.getpid()}.{threading.get_ident()}.tmp"
    listed = folder / LIST_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT))
        probe.unlink()
        if listed.exists():
            os.close(os.open(listed, os.O_WRONLY))
    except OSError as error:
        place = listed if error.filename == str(listed) else folder
        raise ConfigError(
            f"{place} cannot be written, and NNI keeps its list of experiments there ({error.strerror}); set "
            "HOME to a folder that can."
        ) from None


def _own_server() -> None:
    """`nni/experiment/launcher.py`, `_start_rest_server` and `_ensure_port_idle`.

    Without it: of two experiments that are started at once on one port, the second one's server ends with a
    stack trace of Node on the screen; its Python takes the first one's server for its own, gives it a second
    experiment, and waits for ever. Here a started server has to listen itself, and what it prints goes to
    files in the experiment's folder.
    """
    from nni.experiment import RunMode, launcher

    start, idle = launcher._start_rest_server, launcher._ensure_port_idle

    # no functools.wraps: for `exposure.listen_on` this is the original
    def _start_rest_server(arguments: Any, run_mode: Any) -> Any:
        quiet = RunMode.Detach if run_mode is RunMode.Background else run_mode
        process = start(arguments, quiet)
        folder = Path(arguments.experiments_directory) / arguments.experiment_id / "log"
        _wait_until_it_listens(process, arguments.port, folder / "nnictl_stderr.log")
        return process

    @functools.wraps(idle)
    def _ensure_port_idle(port: int, message: str | None = None) -> None:
        try:
            idle(port, message)
        except RuntimeError:
            raise port_taken(port, message) from None

    launcher._start_rest_server = _start_rest_server
    launcher._ensure_port_idle = _ensure_port_idle


def _wait_until_it_listens(process: Any, port: int, log: Path) -> None:
    """Wait for the server.

    Raises:
        ConfigError: it has ended: another program has the port, or what its log says.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
            if "EADDRINUSE" in said:
                raise port_taken(port)
            lines = [line.strip() for line in said.splitlines() if "Error" in line]
            raise ConfigError(
                f"NNI's server ended as it started: {lines[-1] if lines else 'it said nothing'} ({log})."
            )
        if _listens(process.pid, port):
            return
        time.sleep(0.1)


def _listens(pid: int, port: int) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        connections = getattr(process, "net_connections", None) or process.connections
        found = connections(kind="tcp")
    except psutil.AccessDenied:  # a system that does not say; NNI's own check follows
        return True
    except psutil.NoSuchProcess:
        return False
    return any(entry.status == psutil.CONN_LISTEN and entry.laddr.port == port for entry in found)


def port_taken(port: int, purpose: str | None = None) -> ConfigError:
    """The sentence for a port that another program has.

    Args:
        port: the port.
        purpose: what it is for, if it is not that of the web UI.
    """
    told = f"--port {port}" if purpose is None else f"port {port} ({purpose})"
    return ConfigError(f"{told}: another program listens on this port; give another one.")
