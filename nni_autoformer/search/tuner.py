"""The evolution as a tuner of NNI, for experiments that nnictl or `Experiment` starts.

NNI gives a tuner ten seconds to connect, so nothing here loads torch.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nni import ClassArgsValidator
from nni.tuner import Tuner

from ..architecture import Architecture
from ..checkpoints.header import own_header
from ..errors import ConfigError
from ..experiment.fixes import tell_tuner_of_resumed_trials
from ..experiment.manager import Manager
from ..space import SearchSpace
from .driver import GRACE, RETRIES, SearchDriver
from .evolution import Candidate, Evolution, EvolutionConfig
from .limits import LIMITS, Limits

_logger = logging.getLogger("nni.autoformer")

FOLDER = "search"
"""Below the experiment's folder, unless the argument `output` says otherwise."""


def evolution_of(
    space: str | None = None,
    checkpoint: str | None = None,
    base: str | Path = ".",
    optimize_mode: str = "maximize",
    **settings: Any,
) -> Evolution:
    """The search that a tuner's class arguments describe.

    Args:
        space: name of a packaged space, or a YAML file.
        checkpoint: a supernet of this package, whose header holds the space; one of the two is needed.
        base: the folder that relative paths start from.
        optimize_mode: 'maximize'; accuracy is never minimised.
        settings: those of `Limits` and `EvolutionConfig`.

    Raises:
        ConfigError: an argument is unknown or wrong; the sentence names it.
    """
    if optimize_mode != "maximize":
        raise ConfigError(f"classArgs: optimize_mode is {optimize_mode!r}; accuracy can only be maximized.")
    limits = {name: settings.pop(name) for name in LIMITS if name in settings}
    if unknown := [name for name in settings if name not in EvolutionConfig.__dataclass_fields__]:
        known = ["space", "checkpoint", "output", "retries", *LIMITS]
        known += EvolutionConfig.__dataclass_fields__
        raise ConfigError(f"classArgs: unknown argument '{unknown[0]}'; known are {', '.join(known)}.")
    for name, value in {**limits, **settings}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ConfigError(f"classArgs: {name} is {value!r}; it should be a number.")
    return Evolution(_space_of(space, checkpoint, Path(base)), Limits(**limits), EvolutionConfig(**settings))


def _space_of(space: str | None, checkpoint: str | None, base: Path) -> SearchSpace:
    expected = None
    if space is not None:
        file = base / space
        expected = SearchSpace.load(file if file.is_file() else space)
    if checkpoint is None:
        if expected is None:
            raise ConfigError("classArgs: 'checkpoint' or 'space' is needed, to know what is searched.")
        return expected
    header = own_header(base / checkpoint)
    if header is None:
        if expected is None:
            raise ConfigError(
                f"classArgs: {checkpoint} does not say which search space it is for; give 'space' too."
            )
        return expected
    if expected is not None:
        same = expected.with_model(num_classes=header.space.model.num_classes)
        if differences := same.differences(header.space):
            raise ConfigError(
                f"classArgs: {checkpoint} is of another search space than '{space}': "
                f"{'; '.join(differences)} (here: space, there: the checkpoint)."
            )
    return header.space


class EvolutionClassArgsValidator(ClassArgsValidator):
    """Checks `classArgs` for NNI's registry of algorithms."""

    def validate_class_args(self, **kwargs: Any) -> None:
        """Raises ConfigError, a ValueError, for arguments that the tuner would refuse."""
        arguments = {name: value for name, value in kwargs.items() if name not in ("output", "retries")}
        evolution_of(**arguments)


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
        settings: those of `Limits` and `EvolutionConfig`.

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
        **settings: Any,
    ) -> None:
        super().__init__()
        tell_tuner_of_resumed_trials()
        self._manager = Manager.of_this_tuner()
        base = Path(".") if self._manager is None else _code_directory(self._manager)
        evolution = evolution_of(space, checkpoint, base, optimize_mode, **settings)
        folder = _default_folder() if output is None else base / output
        self.driver = SearchDriver(evolution, folder, retries, remember_proposals=True)
        resuming = os.environ.get("NNI_MODE") == "resume"
        if folder is not None and output is not None and not resuming and any(folder.glob("*")):
            raise ConfigError(f"classArgs: output {output} holds a search already; give another folder.")
        if folder is not None:
            _make(folder)
        if self.driver.resume():
            _logger.info("The search goes on: %d candidates are told.", evolution.told)
        self._lock = threading.RLock()
        self._send: Any = None  # NNI's way of handing over a trial when nobody has asked for one
        self._running: dict[int, Candidate] = {}
        self._credit: list[int] = []  # parameter numbers that NNI waits for
        self._known: dict[Architecture, Any] = {}  # results from NNI's own data base
        self._resumed: set[Architecture] = set()  # running again without being asked for
        self._closed = False

    @property
    def evolution(self) -> Evolution:
        """What is searched."""
        return self.driver.evolution

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        """Check that the experiment's search space is the one that is searched.

        Raises:
            ConfigError: a label or its values differ.
        """
        wanted = self.evolution.space.to_nni()
        for label in {**wanted, **search_space}:
            mine, theirs = (entry.get(label, {}).get("_value") for entry in (wanted, search_space))
            if mine != theirs:  # 4 and 4.0 are equal
                raise ConfigError(
                    f"search_space: '{label}' is {theirs}, and {mine} in the space "
                    f"'{self.evolution.space.name}' that is searched; nni-autoformer space --format nnictl "
                    "writes the file."
                )

    # Proposals

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

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """A trial's result."""
        with self._lock:
            if parameter_id in self._running:
                self.driver.answer(self._running[parameter_id], value)
            self._go_on()

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """A trial's end, which may come before its result."""
        with self._lock:
            candidate = self._running.get(parameter_id)
            if candidate is not None:
                self._end(candidate, success)

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results that NNI has: of an experiment that is resumed, and of trials that were resumed with it."""
        with self._lock:
            for entry in data:
                architecture = Architecture.from_sample(entry["parameter"])
                candidate = self.evolution.candidate_of(architecture)
                if candidate is None:
                    self._known[architecture] = entry["value"]
                else:
                    self.evolution.skip(candidate.number)
                    self.driver.answer(candidate, entry["value"])
            self._go_on()

    def resumed_trial(self, parameters: Mapping[str, Any]) -> None:
        """NNI runs a trial again by itself, see `fixes.tell_tuner_of_resumed_trials`."""
        with self._lock:
            architecture = Architecture.from_sample(parameters)
            if self.evolution.candidate_of(architecture) is None:
                self._resumed.add(architecture)
            else:
                self.driver.running(architecture)

    def resumed_trial_end(self, parameters: Mapping[str, Any], success: bool) -> None:
        """The end of such a trial."""
        with self._lock:
            candidate = self.evolution.candidate_of(Architecture.from_sample(parameters))
            if candidate is not None:
                self._end(candidate, success)

    def _end(self, candidate: Candidate, success: bool) -> None:
        self.driver.ended(candidate, success)
        if success and not self.evolution.has_answer(candidate.number):
            timer = threading.Timer(GRACE + 1, self._go_on)
            timer.daemon = True
            timer.start()
        self._go_on()

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
        if self.driver.folder is not None and self.evolution.told:
            self.driver.folder.write_best()
        _logger.info(
            "The search is complete: %d candidates, %d given up.", self.evolution.told, self.evolution.failed
        )
        if self._manager is not None:
            # NNI's answer may need this thread
            threading.Thread(target=self._manager.finish, daemon=True).start()

    def _give_up(self) -> None:
        self._closed = True
        error = "" if self._manager is None else self._manager.trial_error()
        sentence = str(self.driver.hopeless_error(error))
        _logger.error(sentence)
        if self._send is not None:
            self._send.__self__.report_error(sentence)  # NNI's dispatcher, whose method the callback is


def _code_directory(manager: Manager) -> Path:
    return Path(manager.profile()["params"].get("trialCodeDirectory") or ".")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"classArgs: output {folder} cannot be made: {error.strerror}.") from None


def _default_folder() -> Path | None:
    log = os.environ.get("NNI_LOG_DIRECTORY")
    return None if log is None else Path(log).parent / FOLDER
