"""Several processes, as torchrun starts them, over gloo on the CPU."""

import json
import socket

import pytest
import torch
from safetensors.torch import load_file

from nni_autoformer import ConfigError, SearchSpace, load_supernet
from nni_autoformer.cli import main
from nni_autoformer.randomness import generator
from nni_autoformer.training.ranks import Ranks
from tests.processes import finish, torchrun

DRIVER = """
import hashlib, json, os, signal, sys
from nni_autoformer.cli import main
from nni_autoformer.training.module import NamedAccuracies
from nni_autoformer.training.saving import Saving
from nni_autoformer.training.guard import Guard

def note(*entry):
    with open(f"{os.environ['RECORDS']}/{os.environ['RANK']}", "a") as file:
        file.write(json.dumps(entry) + "\\n")

def around(owner, name, before):
    original = getattr(owner, name)
    def wrapped(self, *args):
        before(self, *args)
        return original(self, *args)
    setattr(owner, name, wrapped)

def step(self, trainer, module, optimizer):
    without = {n.split(".")[2] for n, p in module.supernet.named_parameters()
               if n.startswith("blocks.blocks.") and p.grad is None}
    note("step", trainer.global_step, [str(entry) for entry in module.trained], sorted(without))
    sender, number, target = os.environ.get("SIGNAL", "9:x:x").split(":")
    if (os.environ["RANK"] == sender and trainer.global_step == 8
            and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"):
        os.kill(os.getppid() if target == "parent" else os.getpid(), int(number))

def epoch(self, trainer, module):
    digest = hashlib.sha256()
    for tensor in module.supernet.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    note("weights", trainer.current_epoch, digest.hexdigest())

around(Guard, "on_before_optimizer_step", step)
around(Saving, "on_train_epoch_end", epoch)
around(NamedAccuracies, "update", lambda self, name, logits, targets: note("validated", name, len(targets)))
sys.exit(main(sys.argv[1:]))
"""
PLAIN = "--drop-path 0 --hflip 0 --crop-padding 0 --selection 5-per-class --epochs 3"
SPACE_OF_15 = 15  # images of the selection: no whole number for 2 or 4 ranks


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


class Launch:
    """A training of the toy on several ranks.

    Attributes:
        process: torchrun's.
        output: file of what it prints.
        records: folder of what each rank notes.
    """

    def __init__(self, process, output, records):
        self.process, self.output, self.records = process, output, records

    def end(self, success=True):
        """Wait for it; what it has printed, and what each rank has noted."""
        code, printed = finish(self.process), self.output.read_text()
        assert (code == 0) == success, printed[-3000:]
        notes = {int(path.name): path.read_text().splitlines() for path in self.records.iterdir()}
        return printed, {rank: [json.loads(line) for line in lines] for rank, lines in notes.items()}


@pytest.fixture
def launch(tmp_path, toy, toy_command):
    """Start such a training."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)

    def launch(output, flags, size, *more, signal="", place=""):
        records, printed = (tmp_path / f"{kind}-{output.name}{place}" for kind in ("records", "printed"))
        records.mkdir(exist_ok=True)
        words = toy_command(toy, output, *PLAIN.split(), *flags)
        environment = {"RECORDS": str(records), **({"SIGNAL": signal} if signal else {})}
        process = torchrun(size, driver, words, *more, output=printed, environment=environment)
        return Launch(process, printed, records)

    return launch


def weights(folder):
    return load_file(folder / "supernet.safetensors")


def of_kind(notes, kind):
    return [entry[1:] for entry in notes if entry[0] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_train_what_one_process_trains(toy, toy_command, tmp_path, launch, ranks):
    alone, output = tmp_path / "alone", tmp_path / "run"
    assert main(toy_command(toy, alone, *PLAIN.split(), "--batch-size", "8")) == 0
    _, notes = launch(output, ["--batch-size", str(8 // ranks)], ranks).end()
    assert sorted(notes) == list(range(ranks))

    space = SearchSpace.load(toy / "space.yaml")
    steps = of_kind(notes[0], "step")
    assert len(steps) == 15
    for step, trained, without in steps:
        architecture = space.sample(generator(0, "subnet", step))
        assert trained == [str(architecture)]
        assert without == [str(i) for i in range(architecture.depth, space.max_depth)]
    digests = of_kind(notes[0], "weights")
    assert len(digests) == 3
    for rank in range(1, ranks):
        assert of_kind(notes[rank], "step") == steps
        assert of_kind(notes[rank], "weights") == digests

    one, many = weights(alone), weights(output)
    assert max((one[key] - many[key]).abs().max() for key in one) < 1e-6

    counts = [of_kind(notes[rank], "validated") for rank in range(ranks)]
    for name in ("smallest", "middle", "largest"):
        assert (
            sum(n for entries in counts for key, n in entries if key == f"val_acc_percent/{name}")
            == 3 * SPACE_OF_15
        )
    accuracies = load_supernet(output / "supernet.safetensors")[1].run["metrics"]
    assert evaluated(toy, output) == pytest.approx(
        {key: value for key, value in accuracies.items() if key.startswith("val_acc_percent/")}, abs=1e-4
    )
    # one process writes; each has an NNI experiment of its own
    assert sorted(path.name for path in (output / "ranks").iterdir()) == [str(r) for r in range(1, ranks)]
    assert len((output / "metrics.csv").read_text().splitlines()) == 1 + 3


def evaluated(toy, output):
    """The accuracies of the saved weights, on all selection images in one process."""
    from nni_autoformer.search.evaluation import Evaluation
    from nni_autoformer.search.images import EvaluationImages

    path = output / "supernet.safetensors"
    supernet, header = load_supernet(path)
    images = EvaluationImages(str(path), "folder", str(toy / "images"), store="none").decoded(header)
    evaluator = Evaluation(device="cpu").evaluator(header, images)
    return {
        f"val_acc_percent/{name}": evaluator.evaluate(supernet.extract(architecture)).top1
        for name, architecture in header.space.named().items()
    }


MIXED = "--batch-size 2 --grad-accum-steps 2 --mixup 0.8 --reprob 0.5 --model-ema"
MIXED += " --sampling sandwich --sandwich-random 1 --widen-epochs 2 --layer-decay 0.8"


@pytest.mark.slow
def test_a_killed_rank_is_started_again_and_two_machines_do_the_same(tmp_path, launch):
    """With mixing, a moving average and accumulated micro-batches; bit for bit."""
    flags = MIXED.split()
    _, notes = launch(tmp_path / "whole", flags, 2).end()
    steps = of_kind(notes[1], "step")
    assert steps == of_kind(notes[0], "step") and len(steps) == 15
    assert [len(trained) for _, trained, _ in steps] == [1] * 5 + [3] * 10  # widened by the same steps
    _, notes = launch(tmp_path / "killed", flags, 2, "--max_restarts", "1", signal="1:9:self").end()
    assert 15 < len(of_kind(notes[1], "step")) < 30  # some steps twice
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(whole[key], value) for key, value in weights(tmp_path / "killed").items())
    sessions = json.loads((tmp_path / "killed" / "run.json").read_text())["sessions"]
    assert len(sessions) == 2

    nodes = ["--nnodes", "2", "--master_addr", "localhost", "--master_port", free_port(), "--node_rank"]
    machines = [launch(tmp_path / "nodes", flags, 1, *nodes, i, place=i) for i in range(2)]
    for machine in machines:
        machine.end()
    assert all(torch.equal(whole[key], value) for key, value in weights(tmp_path / "nodes").items())


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_and_a_resume_changes_nothing(tmp_path, launch):
    flags = ["--batch-size", "4"]
    launch(tmp_path / "whole", flags, 2).end()
    printed, _ = launch(tmp_path / "run", flags, 2, signal="0:15:parent").end(success=False)
    assert "is saved in" in printed
    state = torch.load(tmp_path / "run" / "training.ckpt", weights_only=True)
    assert 8 <= state["global_step"] < 15
    launch(tmp_path / "run", [*flags, "--resume"], 2).end()
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(whole[key], value) for key, value in weights(tmp_path / "run").items())


@pytest.mark.slow
def test_a_mistake_is_told_once(tmp_path, launch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    printed, _ = launch(tmp_path / "mine", [], 2).end(success=False)
    assert printed.count("is not empty and holds no run") == 1


@pytest.mark.parametrize("job", [{"SLURM_NTASKS": "2"}, {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"}])
def test_slurm_s_variables_say_nothing_of_this_process(toy, toy_command, tmp_path, monkeypatch, job):
    """Lightning would end with a traceback, or wait for processes that nobody has started."""
    for name, value in (job | {"SLURM_JOB_NAME": "search", "SLURM_NNODES": "2"}).items():
        monkeypatch.setenv(name, value)
    flags = ["--epochs", "1", "--warmup-epochs", "0"]
    assert main(toy_command(toy, tmp_path / "run", *flags)) == 0
    assert (tmp_path / "run" / "supernet.safetensors").is_file()


def test_ranks_are_torchrun_s():
    assert Ranks.current({}) == Ranks()
    environment = {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
        "TORCHELASTIC_RESTART_COUNT": "2",
    }
    ranks = Ranks.current(environment)
    assert ranks == Ranks(5, 8, 1, 4, 2)
    assert ranks.nodes == 2 and not ranks.main


def test_one_gpu_is_not_for_several_processes(monkeypatch):
    from nni_autoformer.jobs.preparation import device_of

    monkeypatch.setattr("nni_autoformer.devices.pick_device", lambda name: torch.device(name))
    with pytest.raises(ConfigError, match="--device cuda:1 is one GPU for 2 processes"):
        device_of("cuda:1", Ranks(0, 2, 0, 2))
    with pytest.raises(ConfigError, match="2 processes were started on a machine with 0 GPUs"):
        device_of("cuda", Ranks(0, 2, 0, 2))
