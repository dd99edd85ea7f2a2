"""A disk that is full at any moment of a search: one sentence, whole files, and later nothing is lost."""

import errno
import json
import os
import resource
import signal

import pytest

from nni_autoformer import Evolution, EvolutionConfig, EvolutionStrategy, SearchSpace, SubnetEvaluator
from nni_autoformer.complexity import params
from nni_autoformer.errors import ConfigError
from nni_autoformer.experiment import run_experiment
from nni_autoformer.files import append_line
from nni_autoformer.report.results import read_series
from nni_autoformer.search.driver import SearchDriver
from nni_autoformer.search.ledger import Candidate

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(4, 2, 2, 1, 3, seed=4)


def drive(folder):
    driver = SearchDriver(Evolution(SPACE, config=CONFIG), folder)
    driver.resume()
    while isinstance(candidate := driver.next(), Candidate):
        accuracy = params(candidate.architecture, SPACE.model) % 9973 / 100
        driver.answer(candidate, {"default": accuracy, "images": 12})
    driver.folder.write_best()


def with_files_up_to(size, work):
    """Run a function in a child process whose files cannot grow beyond a size; the sentence of its
    `ConfigError`, or nothing.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = "the child has crashed"
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try:
                work()
                text = ""
            except ConfigError as error:
                text = str(error)
            os.write(writing, text.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as file:
        told = file.read()
    os.waitpid(child, 0)
    return told


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    drive(folder)
    return folder


NAMES = ("search.json", "candidates.jsonl", "best.yaml")


def test_a_full_disk_at_every_size(tmp_path, whole):
    largest = max((whole / name).stat().st_size for name in NAMES)
    lines = (whole / "candidates.jsonl").read_text().splitlines()
    told = []
    for size in [0, 1, 100, *range(200, largest, 211), largest]:
        folder = tmp_path / str(size)
        folder.mkdir()
        sentence = with_files_up_to(size, lambda folder=folder: drive(folder))
        told.append(sentence)
        if sentence:
            assert str(folder) in sentence and "File too large" in sentence
            assert "cannot be written" in sentence and "MiB are free there" in sentence
            assert any(name in sentence for name in NAMES)
        listed = folder / "candidates.jsonl"
        if listed.is_file() and (text := listed.read_text()):
            assert text.endswith("\n") and text.splitlines() == lines[: len(text.splitlines())]
            assert len(read_series(str(folder)).results) == len(text.splitlines())
        assert not list(folder.glob(".*.tmp"))
        drive(folder)
        for name in NAMES:
            assert (folder / name).read_text() == (whole / name).read_text(), (size, name)
    assert all(told[:-1]) and not told[-1]


class Full:
    """Raises 'no space left' at one of the calls of a function, and then always."""

    def __init__(self, function, at):
        self.function, self.left = function, at

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.function(*args, **kwargs)


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("at", [0, 1, 7, 12])
def test_no_space_when_a_file_takes_its_place(tmp_path, whole, monkeypatch, function, at):
    with monkeypatch.context() as patch:
        patch.setattr(os, function, Full(getattr(os, function), at))
        with pytest.raises(
            ConfigError, match=r"cannot be written: No space left on device\. \d+ MiB are free"
        ):
            drive(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))
    drive(tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_text() == (whole / name).read_text()


def evaluate(supernet, images, folder):
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
    strategy = EvolutionStrategy(Evolution(SPACE, config=CONFIG), folder, progress=False)
    run_experiment(supernet, evaluator, strategy, folder / "nni")


@pytest.fixture(scope="module")
def evaluated(supernet, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(supernet, images, folder)
    return folder


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_generation_evaluated_together_survives_it(supernet, images, evaluated, tmp_path, monkeypatch, at):
    replace, left = os.replace, [at]

    def full(source, target):
        if "nni" not in str(target):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
            evaluate(supernet, images, tmp_path)
    evaluate(supernet, images, tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_text() == (evaluated / name).read_text()


def test_a_line_is_appended_whole_or_not_at_all(tmp_path):
    file = tmp_path / "lines"
    append_line(file, json.dumps({"a": 1}))
    for torn in (b'{"b": 2', b"x" * 10_000):
        with open(file, "ab") as open_file:
            open_file.write(torn)
        append_line(file, json.dumps({"c": 3}))
    assert file.read_text() == '{"a": 1}\n{"c": 3}\n{"c": 3}\n'
    file.write_bytes(b"torn")
    append_line(file, "first")
    assert file.read_text() == "first\n"
