"""Several ranks share a search's candidates or a test's images, and find what one process finds."""

import copy
import json
import os
import random
import signal
import threading
from contextlib import nullcontext

import psutil
import pytest
import torch

from nni_autoformer import (
    ConfigError,
    Evolution,
    EvolutionConfig,
    EvolutionStrategy,
    SearchSpace,
    SubnetEvaluator,
)
from nni_autoformer.cli import main
from nni_autoformer.experiment import run_experiment
from nni_autoformer.search.crew import Crew, divided
from nni_autoformer.search.parts import PartEvaluator
from nni_autoformer.search.shared_forward import half_layers
from nni_autoformer.training.exchange import Exchange
from nni_autoformer.training.ranks import Ranks
from tests.processes import finish, torchrun, wait_for
from tests.training.test_ranks import free_port

SPACE = SearchSpace.load("digits")
RESULTS = ("candidates.jsonl", "best.yaml", "summary.txt")


# Who evaluates what


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_candidate_is_in_one_share_and_the_shares_cost_about_as_much(count):
    rng = random.Random(0)
    architectures = [SPACE.sample(rng) for _ in range(50)]
    shares = divided(architectures, count)
    assert len(shares) == count
    assert sorted(number for share in shares for number in share) == list(range(50))
    layers = [len({half for n in share for half in prefixes(architectures[n])}) for share in shares]
    assert max(layers) < 1.5 * sum(layers) / count + 8


def prefixes(architecture):
    path = (architecture.embed_dim, *half_layers(architecture))
    return [path[: end + 1] for end in range(len(path))]


def test_neighbours_stay_together():
    rng = random.Random(1)
    architectures = [SPACE.sample(rng) for _ in range(24)]
    whole = len({half for a in architectures for half in prefixes(a)})
    parts = [
        {half for n in share for half in prefixes(architectures[n])} for share in divided(architectures, 4)
    ]
    assert sum(len(part) for part in parts) <= whole + 3 * 12


def test_more_ranks_than_candidates():
    assert sorted(map(len, divided([SPACE.smallest, SPACE.largest], 4))) == [0, 0, 1, 1]
    assert divided([], 3) == [[], [], []]


# A search, over a store of this process


def search(supernet, images, folder, crew=None):
    evolution = Evolution(SPACE, config=EvolutionConfig(10, 3, 5, 3, 3, seed=2))
    evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
    strategy = EvolutionStrategy(evolution, folder, progress=False, crew=crew)
    with nullcontext() if crew is None else crew.ended():
        run_experiment(supernet, evaluator, strategy, folder)
    return [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]


def served(supernet, images, store, size, failing=None):
    """The other ranks of a search, as threads; what they raise."""
    errors = []

    def serve(rank):
        evaluator = SubnetEvaluator(images, (0.5,), (0.5,), 64, device="cpu")
        parts = PartEvaluator(copy.deepcopy(supernet), evaluator)
        if rank == failing:
            parts.marks = refuse
        try:
            crew_of(store, rank, size).serve(parts)
        except ConfigError as error:
            errors.append(error)

    threads = [threading.Thread(target=serve, args=(rank,)) for rank in range(1, size)]
    for thread in threads:
        thread.start()
    return threads, errors


def refuse(*_):
    raise ConfigError("the device has too little memory.")


def crew_of(store, rank, size):
    ranks = Ranks(rank, size, rank, size)
    object.__setattr__(ranks, "exchange", Exchange(store, rank, size))
    return Crew(ranks)


@pytest.mark.parametrize("broken", [False, True])
def test_a_shared_search_ends_as_that_of_one_process(supernet, images, tmp_path, broken):
    supernet = copy.deepcopy(supernet)
    if broken:  # the widest subnets overflow
        with torch.no_grad():
            supernet.norm.weight[-1] = float("inf")
    alone = search(supernet, images, tmp_path / "alone")
    assert any(row.get("failed", False) for row in alone) == broken
    store = torch.distributed.HashStore()
    threads, errors = served(supernet, images, store, 3)
    assert search(supernet, images, tmp_path / "shared", crew_of(store, 0, 3)) == alone
    for thread in threads:
        thread.join(20)
    assert not errors and store.num_keys() <= 2 * 2 * 2 + 1  # what ends the search


def test_the_mistake_of_a_rank_ends_the_search_and_is_told_once(supernet, images, tmp_path):
    store = torch.distributed.HashStore()
    threads, errors = served(copy.deepcopy(supernet), images, store, 3, failing=2)
    with pytest.raises(ConfigError, match="too little memory") as caught:
        search(copy.deepcopy(supernet), images, tmp_path, crew_of(store, 0, 3))
    for thread in threads:
        thread.join(20)
    assert not caught.value.told
    assert [(str(error), error.told) for error in errors] == [("the device has too little memory.", True)] * 2


# Processes

DRIVER = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork has torchrun's
from nni_autoformer.cli import main
from nni_autoformer.search.parts import PartEvaluator
marks = PartEvaluator.marks
def slowly(self, architectures, start, stop, on_batch):
    with open(f"{os.environ['RECORDS']}/{os.environ['RANK']}.evaluated", "a") as file:
        file.write(f"{len(architectures)}\\n")
    time.sleep(float(sys.argv[1]))
    return marks(self, architectures, start, stop, on_batch)
PartEvaluator.marks = slowly
if int(os.environ["TORCHELASTIC_RESTART_COUNT"]) > 0 and "MISTAKE" in os.environ:
    Path(os.environ["MISTAKE"]).unlink(missing_ok=True)
code = main(sys.argv[2:])
with open(f"{os.environ['RECORDS']}/{os.environ['RANK']}.codes", "a") as file:
    file.write(f"{code}\\n")
sys.stderr.flush()
if "MISTAKE" in os.environ:  # torchrun's forks that succeed wait for the others, unlike a user's processes
    os._exit(code)
sys.exit(code)
"""


def command(toy, output, *more):
    flags = f"search --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    small = "--population-size 6 --num-parents 2 --num-mutations 2 --num-crossovers 2 --generations 3"
    return [*flags.split(), *small.split(), "--output", str(output), *more]


def same(one, other):
    return all((one / name).read_text() == (other / name).read_text() for name in RESULTS)


@pytest.fixture(scope="module")
def alone(toy, tmp_path_factory):
    """The search by one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(command(toy, folder)) == 0
    return folder


@pytest.fixture
def launch(tmp_path):
    """Start the command line on several ranks, each evaluation so many seconds longer."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    (tmp_path / "records").mkdir()

    def launch(size, words, *more, seconds=0.0, name="printed", environment=None):
        environment = {"RECORDS": str(tmp_path / "records"), **(environment or {})}
        return torchrun(
            size, driver, [seconds, *words], *more, output=tmp_path / name, environment=environment
        )

    return launch


def codes(tmp_path):
    return sorted(
        int(code) for file in (tmp_path / "records").glob("*.codes") for code in file.read_text().split()
    )


def shares(tmp_path):
    """How many subnets each rank has evaluated, counted once per part of the images."""
    files = sorted((tmp_path / "records").glob("*.evaluated"))
    return [sum(map(int, file.read_text().split())) for file in files]


@pytest.mark.slow
def test_ranks_find_what_one_process_finds(toy, alone, tmp_path, launch):
    for size in (2, 4):
        output = tmp_path / f"of-{size}"
        assert finish(launch(size, command(toy, output))) == 0, (tmp_path / "printed").read_text()
        assert same(output, alone)
        assert not (output / "ranks").exists()
    assert min(shares(tmp_path)) > 0 and len(shares(tmp_path)) == 4
    printed = (tmp_path / "printed").read_text()
    assert printed.count("Results are in") == 1
    # the finished search, asked for again
    assert finish(launch(2, command(toy, output, "--resume"))) == 0
    assert (tmp_path / "printed").read_text().count("holds the finished search already") == 1


@pytest.mark.slow
def test_a_killed_rank_is_started_again(toy, alone, tmp_path, launch):
    output = tmp_path / "s"
    process = launch(2, command(toy, output), "--max_restarts", "1", seconds=0.2)
    wait_for(lambda: (output / "search.json").is_file(), process, every=0.01)
    psutil.Process(process.pid).children()[-1].kill()
    assert finish(process) == 0, (tmp_path / "printed").read_text()
    assert same(output, alone)
    assert len(json.loads((output / "run.json").read_text())["sessions"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_end_all_ranks_leave_and_the_state_is_saved(toy, alone, tmp_path, launch, number, code):
    output = tmp_path / "s"
    process = launch(2, command(toy, output), "--signals-to-handle", "SIGTERM,SIGINT", seconds=0.2)
    wait_for(lambda: (output / "search.json").is_file(), process, every=0.01)
    psutil.Process(process.pid).send_signal(number)
    assert finish(process) != 0
    printed = (tmp_path / "printed").read_text()
    assert codes(tmp_path) == [code, code], printed
    assert printed.count("nni-autoformer: ") == 1 and "--resume" in printed
    assert json.loads((output / "run.json").read_text())["status"] == "running"
    assert main(command(toy, output, "--resume")) == 0
    assert same(output, alone)


def test_one_process_that_is_asked_to_end_leaves_as_cleanly(toy, tmp_path, monkeypatch, capsys):
    marks, output = PartEvaluator.marks, tmp_path / "s"

    def then_terminated(self, *arguments):
        if (output / "search.json").is_file():  # a generation is behind it
            os.kill(os.getpid(), signal.SIGTERM)
        return marks(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PartEvaluator, "marks", then_terminated)
        assert main(command(toy, output)) == 143
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert len((output / "candidates.jsonl").read_text().splitlines()) == 6
    assert main(command(toy, output, "--resume")) == 0


@pytest.mark.slow
def test_two_machines_and_one_of_them_sees_no_output(toy, alone, tmp_path, launch):
    nodes = ["--nnodes", "2", "--master_addr", "localhost", "--master_port", free_port(), "--node_rank"]
    output = tmp_path / "s"
    (tmp_path / "file").write_text("no folder can be made below it")
    places = (output, tmp_path / "file" / "s")
    machines = [
        launch(1, command(toy, place), *nodes, i, name=f"printed-{i}") for i, place in enumerate(places)
    ]
    for i, machine in enumerate(machines):
        assert finish(machine) == 0, (tmp_path / f"printed-{i}").read_text()
    assert same(output, alone)


def words_of_test(toy, *more):
    flags = f"test --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    return [*flags.split(), "--architecture", "largest", "--batch-size", "5", *more]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--split", "selection"]])
def test_ranks_share_the_images_of_a_test(toy, tmp_path, launch, capsys, more):
    """24 test images in five batches, or 12 selection images in three: some for each of two or four ranks."""
    assert main(words_of_test(toy, *more)) == 0
    wanted = capsys.readouterr().out.splitlines()[-8:]
    for size in (2, 4):
        assert finish(launch(size, words_of_test(toy, *more))) == 0, (tmp_path / "printed").read_text()
        printed = (tmp_path / "printed").read_text()
        assert "\n".join(wanted) in printed and printed.count("top-1") == 1


@pytest.mark.slow
def test_a_mistake_is_told_once_and_not_tried_again(toy, tmp_path, launch):
    """A further attempt finds the mistake put right, and would search."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    environment = {"MISTAKE": str(tmp_path / "mine" / "notes.txt")}
    process = launch(2, command(toy, tmp_path / "mine"), "--max_restarts", "2", environment=environment)
    assert finish(process) != 0
    assert (tmp_path / "printed").read_text().count("is not empty and holds no run") == 1
    assert not (tmp_path / "mine" / "notes.txt").exists()  # there were further attempts
    assert set(codes(tmp_path)) <= {0, 2} and not shares(tmp_path) and not any((tmp_path / "mine").iterdir())
