"""The search algorithms as a tuner of NNI, for experiments that nnictl or `Experiment` starts.

NNI gives a tuner ten seconds to connect, so nothing here loads torch.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nni import ClassArgsValidator
from nni.tuner import Tuner

from ..architecture import Architecture
from ..config import shown
from ..errors import ConfigError
from ..experiment import exposure, fixes
from ..experiment.manager import Manager
from .class_args import ClassArgs
from .driver import GRACE, RETRIES, SearchDriver
from .evolution import Evolution
from .ledger import Candidate
from .searcher import Searcher

_logger = logging.getLogger("nni.autoformer")

FOLDER = "search"
"""Below the experiment's folder, unless the argument `output` says otherwise."""


def searcher_of(base: str | Path = ".", **arguments: Any) -> Searcher:
    """The search that a tuner's class arguments describe.

    Args:
        base: folder that relative paths start from.
        arguments: class arguments, see `EvolutionTuner`.

    Raises:
        ConfigError: an argument is unknown or wrong; the sentence names it.
    """
    return ClassArgs.of(arguments).searcher(Path(base))


class EvolutionClassArgsValidator(ClassArgsValidator):
    """Checks `classArgs` for NNI's registry of algorithms."""

    def validate_class_args(self, **kwargs: Any) -> None:
        """Raises ConfigError, a ValueError, for arguments that the tuner would refuse."""
        searcher_of(**kwargs)


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let the experiment end with the sentence of a `ConfigError`, where NNI would end with a traceback."""

    @functools.wraps(method)
    def wrapper(self: EvolutionTuner, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except ConfigError as error:
            self._end_with(str(error))
            return []

    return wrapper


class EvolutionTuner(Tuner):
    """Evolutionary search under limits (paper section 3.4) as a tuner.

    In `config.yml`::

        tuner:
          className: nni_autoformer.search.tuner.EvolutionTuner
          classArgs: {checkpoint: ../../runs/demo/supernet.safetensors, max_params: 0.25}

    The same search as `nni-autoformer search` with the same seed, at any concurrency. The state is written
    after every proposal and answer, so a stopped or killed experiment goes on with `nnictl resume`.

    Args:
        space: name of a packaged space, or a YAML file.
        checkpoint: a supernet, whose header holds the space; one of the two is needed.
        output: folder for the state, all candidates and the best one; default `search` in the experiment's
            folder. Relative paths start, as the trial command does, from the experiment's trialCodeDirectory.
        retries: how often a failing trial is run again before its candidate is given up.
        optimize_mode: 'maximize'.
        algorithm: 'evolution', or 'random' for random subnets within the limits.
        latency_table: file of measured latencies of the device, which a limit on latency needs.
        settings: those of `Limits`, of `Deployment`, and of `EvolutionConfig` or `RandomConfig`.

    Raises:
        ConfigError: an argument is unknown or wrong, or `output` holds another search.
    """

    def __init__(
        self,
        space: str | None = None,
        checkpoint: str | None = None,
        output: str | None = None,
        retries: int = RETRIES,
        optimize_mode: str = "maximize",
        algorithm: str = Evolution.algorithm,
        latency_table: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        fixes.tell_tuner_of_resumed_trials()
        exposure.values_from_the_manager()
        own = {"space": space, "checkpoint": checkpoint, "output": output, "retries": retries}
        own["latency_table"] = latency_table
        arguments = ClassArgs.of({**own, "optimize_mode": optimize_mode, "algorithm": algorithm, **settings})
        self._manager = Manager.of_this_tuner()
        base = Path(".") if self._manager is None else _code_directory(self._manager)
        searcher = arguments.searcher(base)
        folder = _folder(base, output)
        self.driver = SearchDriver(
            searcher, folder, retries, remember_proposals=True, contents=arguments.contents(base)
        )
        if self.driver.resume():
            _logger.info("The search goes on: %d candidates are told.", searcher.ledger.told)
        self._lock = threading.RLock()
        self._send: Any = None  # NNI's way of handing over a trial when nobody has asked for one
        self._running: dict[int, Candidate] = {}
        self._credit: list[int] = []  # parameter numbers that NNI waits for
        self._known: dict[Architecture, Any] = {}  # results from NNI's own data base
        self._resumed: set[Architecture] = set()  # running again without being asked for
        self._closed = False

    @property
    def evolution(self) -> Searcher:
        """The search algorithm."""
        return self.driver.searcher

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Check that the experiment's search space is the one that is searched.

        Raises:
            ConfigError: a label or its values differ.
        """
        if not isinstance(search_space, Mapping):
            raise ConfigError(f"search_space is {shown(search_space)}; it should hold labels with choices.")
        wanted = self.evolution.space.to_nni()
        for label in {**wanted, **search_space}:
            mine, theirs = (_values(entry.get(label)) for entry in (wanted, search_space))
            if mine != theirs:  # 4 and 4.0 are equal
                raise ConfigError(
                    f"search_space: '{shown(label)}' is {shown(theirs)}, and {mine} in the space "
                    f"'{self.evolution.space.name}' that is searched; nni-autoformer space --format nnictl "
                    "writes the file."
                )

    # Proposals

    @_told
    def generate_multiple_parameters(self, parameter_id_list: list[int], **kwargs: Any) -> list[Any]:
        """Candidates for as many parameter numbers as there are; the others get theirs when a generation is
        complete.
        """
        with self._lock:
            self._send = kwargs.get("st_callback", self._send)
            self._credit += parameter_id_list
            proposals = []
            while self._credit and (candidate := self._next()) is not None:
                proposals.append(self._start(self._credit.pop(0), candidate))
            self._close_if_done()
            return proposals

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> Any:
        """One candidate.

        Raises:
            NoMoreTrialError: there is none at the moment.
        """
        from nni import NoMoreTrialError

        if not (proposals := self.generate_multiple_parameters([parameter_id], **kwargs)):
            raise NoMoreTrialError("the generation is still being evaluated")
        return proposals[0]

    def _start(self, number: int, candidate: Candidate) -> dict[str, Any]:
        self._running[number] = candidate
        return candidate.architecture.to_sample(self.evolution.space.max_depth)

    def _next(self) -> Candidate | None:
        while isinstance(step := self.driver.next(), Candidate):
            if step.architecture in self._known:
                self.driver.answer(step, self._known.pop(step.architecture))
            elif step.architecture in self._resumed:
                self._resumed.discard(step.architecture)  # NNI runs it already
            else:
                return step
        return None

    # Answers

    @_told
    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """A trial's result."""
        with self._lock:
            if parameter_id in self._running:
                self.driver.answer(self._running[parameter_id], value)
            self._go_on()

    @_told
    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """A trial's end, which may come before its result."""
        with self._lock:
            candidate = self._running.get(parameter_id)
            if candidate is not None:
                self._end(candidate, success)

    @_told
    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results that NNI has: of an experiment that is resumed, and of trials that were resumed with it."""
        with self._lock:
            for entry in data:
                architecture, value = self._architecture(entry.get("parameter")), entry.get("value")
                if architecture is None:
                    continue
                if not self.driver.same_images(value):
                    _logger.warning(
                        "A result on other images than the first one's is left out: %s", architecture
                    )
                    continue
                if (known := self.driver.ledger.find(architecture)) is None:
                    self._known[architecture] = value
                else:
                    self.driver.answer(known.candidate, value)
            self._go_on()

    def resumed_trial(self, parameters: Mapping[str, Any]) -> None:
        """NNI runs a trial again by itself, see `fixes.tell_tuner_of_resumed_trials`."""
        with self._lock:
            architecture = self._architecture(parameters)
            if architecture is None:
                return
            if architecture not in self.driver.ledger:
                self._resumed.add(architecture)
            else:
                self.driver.running(architecture)

    @_told
    def resumed_trial_end(self, parameters: Mapping[str, Any], success: bool) -> None:
        """The end of such a trial."""
        with self._lock:
            architecture = self._architecture(parameters)
            entry = None if architecture is None else self.driver.ledger.find(architecture)
            if entry is not None:
                self._end(entry.candidate, success)

    def _architecture(self, parameters: Any) -> Architecture | None:
        """What a trial's parameters mean; None for those of a trial that somebody has added by hand and that
        are no subnet of the space.
        """
        try:
            if not isinstance(parameters, Mapping):
                raise ConfigError("they should hold labels with values")
            return self.evolution.space.require(Architecture.from_sample(parameters))
        except ConfigError as error:
            _logger.warning("Parameters are left out of the search: %s: %s", shown(parameters), error)
            return None

    def _end(self, candidate: Candidate, success: bool) -> None:
        self.driver.ended(candidate, success)
        if success and not self.driver.ledger[candidate.number].status.answered:
            timer = threading.Timer(GRACE + 1, self._go_on)
            timer.daemon = True
            timer.start()
        self._go_on()

    @_told
    def _go_on(self) -> None:
        with self._lock:
            if self.driver.hopeless and not self._closed:
                self._give_up()
            while self._send is not None and self._credit and (candidate := self._next()) is not None:
                number = self._credit.pop(0)
                self._send(number, self._start(number, candidate))
            self._close_if_done()

    def _close_if_done(self) -> None:
        if not self.evolution.done or self._closed:
            return
        self._closed = True
        ledger = self.driver.ledger
        if self.driver.folder is not None and ledger.told:
            self.driver.folder.write_found()
        _logger.info("The search is complete: %d candidates, %d given up.", ledger.told, ledger.failed)
        if self._manager is not None:
            # NNI's answer may need this thread
            threading.Thread(target=self._manager.finish, daemon=True).start()

    def _give_up(self) -> None:
        error = "" if self._manager is None else self._manager.trial_error()
        self._end_with(str(self.driver.hopeless_error(error)))

    def _end_with(self, sentence: str) -> None:
        """Let the experiment end in an error that NNI shows."""
        if self._closed:
            return
        self._closed = True
        _logger.error(sentence)
        if self._send is not None:
            self._send.__self__.report_error(sentence)  # NNI's dispatcher, whose method the callback is


def _values(entry: Any) -> Any:
    return entry.get("_value") if isinstance(entry, Mapping) else entry


def _code_directory(manager: Manager) -> Path:
    return Path(manager.profile()["params"].get("trialCodeDirectory") or ".")


def _folder(base: Path, output: str | None) -> Path | None:
    """The folder that the user names, empty unless the experiment is resumed, or the experiment's own one;
    None outside of an experiment.
    """
    log = os.environ.get("NNI_LOG_DIRECTORY")
    if output is None and log is None:
        return None
    folder = Path(str(log)).parent / FOLDER if output is None else base / output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = output is not None and os.environ.get("NNI_MODE") != "resume" and any(folder.iterdir())
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"classArgs: output {shown(folder)} cannot be made: {reason}.") from None
    if taken:
        raise ConfigError(f"classArgs: output {output} holds a search already; give another folder.")
    return folder
