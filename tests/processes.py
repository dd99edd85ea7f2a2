"""Commands in processes of their own, which a test can kill at any moment, without the seconds of imports.

The processes are forked from one that has imported everything and done nothing else (multiprocessing's fork
server). A signal meets them as it meets any process; only how they begin is another way than a user's.
"""

import contextlib
import multiprocessing
import os
import pkgutil
import random
import signal
import sys
import time

import nni_autoformer

COMMAND_LINE = "nni_autoformer.cli"
LAUNCHER = "torch.distributed.run"
LIBRARIES = (
    "pytest",
    "matplotlib.pyplot",
    "nni.nas.experiment",
    "sklearn.datasets",
    "torch.utils.tensorboard",
    LAUNCHER,
)

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        *LIBRARIES,
        *(module.name for module in pkgutil.walk_packages(nni_autoformer.__path__, "nni_autoformer.")),
    ]
)

_started = []


def start(words, *, module=COMMAND_LINE, output=None, threads=None, environment=None, prepare=None):
    """Run a module's `main` with a command line, in a process and a process group of its own.

    Args:
        words: the command line.
        module: whose `main` it is.
        output: a file for what is printed; None for none.
        threads: torch's; None for as many as here, so that results are equal bit for bit.
        environment: further environment variables.
        prepare: a function of a test module that is called before, with no arguments.

    Returns:
        multiprocessing's process; its `exitcode` is that of the command, or minus the signal's number.
    """
    import torch

    details = (module, output, threads or torch.get_num_threads(), environment or {}, prepare)
    process = _server.Process(target=_run, args=([str(word) for word in words], *details))
    process.start()
    _started.append(process)
    return process


def _run(words, module, output, threads, environment, prepare):
    import importlib

    import numpy
    import torch

    os.setsid()
    os.environ.update(environment)
    file = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    random.seed()
    numpy.random.seed()  # differs from process to process, as if it had been imported here
    torch.set_num_threads(threads)
    if prepare is not None:
        prepare()
    sys.exit(importlib.import_module(module).main(words))


def torchrun(size, script, words, *more, environment=None, **details):
    """Start a script on several ranks with torchrun, which forks them.

    Args:
        size: ranks of this machine.
        script: a Python file.
        words: its command line.
        more: further flags of torchrun; without any that says where they meet, `--standalone`.
        environment, details: see `start`.
    """
    environment = {"OMP_NUM_THREADS": "1", **(environment or {})}  # Lightning sets threads where it is not
    where = [] if "--nnodes" in more else ["--standalone"]
    flags = [*where, "--nproc_per_node", size, "--start_method", "fork", *more]
    return start(
        [*flags, "--run_path", script, *words], module=LAUNCHER, threads=1, environment=environment, **details
    )


def wait_for(condition, process=None, timeout=180.0, every=0.002):
    """Wait until something holds, while a process runs; what it gave."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert process is None or process.is_alive(), "the process has ended before"
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(every)
    return value


def kill(process, number=signal.SIGKILL):
    """Send a signal to a process and all that it has started, and wait for the end."""
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode is not None


def finish(process, timeout=300):
    """Wait for the end; the exit status."""
    process.join(timeout)
    if process.exitcode is None:
        kill(process)
        raise AssertionError("the process has not ended in time")
    return process.exitcode


def end_all():
    """Kill what a test that failed has left."""
    while _started:
        process = _started.pop()
        if process.is_alive():
            kill(process)
