"""`sample`: random subnets of a supernet, in one process or several, interrupted or not."""

import json

import psutil
import pytest

from nni_autoformer import Architecture, SearchSpace, load_supernet
from nni_autoformer.cli import main
from nni_autoformer.search.evaluation import Evaluation
from nni_autoformer.search.images import EvaluationImages
from nni_autoformer.search.random_subnets import draw_subnets
from tests.processes import finish, kill, torchrun, wait_for

RESULTS = (
    "samples.jsonl",
    "samples.csv",
    "sizes.json",
    "sizes.csv",
    "pareto.json",
    "pareto.csv",
    "samples.png",
)


def command(toy, output, *more, n=14):
    flags = f"sample --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu -n {n}"
    return [
        *flags.split(),
        "--architecture",
        "smallest",
        "--architecture",
        "largest",
        "--output",
        str(output),
        *more,
    ]


def rows(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def same(one, other):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in RESULTS)


@pytest.fixture(scope="module")
def sampled(toy, tmp_path_factory):
    output = tmp_path_factory.mktemp("sample") / "s"
    assert main(command(toy, output)) == 0
    return output


def test_it_evaluates_the_drawn_subnets_and_the_named_ones(toy, sampled):
    supernet, header = load_supernet(toy / "run" / "supernet.safetensors")
    space, found = header.space, rows(sampled)
    drawn = [Architecture.from_dict(row["architecture"]) for row in found]
    assert drawn == [*draw_subnets(space, 14), space.smallest, space.largest]
    assert [row["name"] for row in found] == [""] * 14 + ["smallest", "largest"]
    images = EvaluationImages(
        str(toy / "run" / "supernet.safetensors"), data=str(toy / "images"), store="none"
    )
    evaluator = Evaluation(device="cpu").evaluator(header, images.decoded(header))
    for row, architecture in list(zip(found, drawn))[::5]:
        accuracy = evaluator.evaluate(supernet.extract(architecture))
        assert (row["top1"], row["top5"], row["images"]) == (accuracy.top1, accuracy.top5, 12)
        assert row["loss"] == accuracy.loss > 0
    assert (sampled / "samples.png").read_bytes().startswith(b"\x89PNG")
    summary = (sampled / "summary.txt").read_text()
    assert "random subnets" in summary and "smallest" in summary and "Pareto front" in summary
    assert json.loads((sampled / "run.json").read_text())["status"] == "finished"
    front = json.loads((sampled / "pareto.json").read_text())
    number = front[-1]["number"]
    named = sampled / "architectures" / f"{number}.yaml"
    flags = f"test --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    assert main([*flags.split(), "--split", "selection", "--architecture", str(named)]) == 0


def test_the_test_images_are_the_other_split(toy, tmp_path, capsys):
    output = tmp_path / "s"
    assert main(command(toy, output, "--split", "test", "--max-params", "0.02", n=3)) == 0
    assert {(row["split"], row["images"]) for row in rows(output)} == {("test", 24)}
    assert all(row["params"] <= 20_000 for row in rows(output)[:3])
    assert "test images" in capsys.readouterr().out


def test_a_published_checkpoint(toy, sampled, tmp_path, capsys):
    """Its accuracies are those that the same weights have when images are prepared as published."""
    published = tmp_path / "p.pth"
    flags = f"convert --checkpoint {toy}/run/supernet.safetensors --to published --output {published}"
    assert main(flags.split()) == 0
    listed = toy / "run" / "selection.txt"
    words = command(toy, tmp_path / "s", "--space", str(toy / "space.yaml"), "--selection", str(listed))
    words[words.index("--checkpoint") + 1] = str(published)
    assert main(words) == 0
    found = rows(tmp_path / "s")
    assert [row["architecture"] for row in found] == [row["architecture"] for row in rows(sampled)]
    space = SearchSpace.load(toy / "space.yaml")
    supernet, header = load_supernet(published, space)
    images = EvaluationImages(str(published), data=str(toy / "images"), selection=str(listed), store="none")
    evaluator = Evaluation(device="cpu").evaluator(header, images.decoded(header))
    for row in found[::5]:
        accuracy = evaluator.evaluate(supernet.extract(Architecture.from_dict(row["architecture"])))
        assert (row["top1"], row["images"]) == (accuracy.top1, 12)
    assert "may have been trained on the selection images" in capsys.readouterr().err


def test_the_whole_of_a_small_space(toy, tmp_path, capsys):
    assert main(command(toy, tmp_path / "s", "--n", "5000")) == 0
    space = SearchSpace.load(toy / "space.yaml")
    random = [Architecture.from_dict(row["architecture"]) for row in rows(tmp_path / "s")[:-2]]
    assert len(random) == 40 and set(random) == set(space)
    assert "40, all that there are" in capsys.readouterr().out


def test_an_interrupted_sample_goes_on(toy, sampled, tmp_path, monkeypatch, capsys):
    from nni_autoformer.jobs.sample_folder import SampleFolder

    record = SampleFolder.record
    evaluated = []

    def record_and_stop(self, rank, subnet, found):
        record(self, rank, subnet, found)
        evaluated.append(subnet.number)
        if subnet.number == 6:
            raise KeyboardInterrupt

    output = tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr(SampleFolder, "record", record_and_stop)
        assert main(command(toy, output)) == 130
    with open(output / "samples.0.jsonl", "a") as file:
        file.write('{"number": 7, "archi')  # what a kill leaves
    assert main(command(toy, output)) == 2
    assert "continue it with --resume" in capsys.readouterr().err
    assert main(command(toy, output, "--resume", "--seed", "1")) == 2
    assert "seed was 0 when the run began and is 1 now" in capsys.readouterr().err
    monkeypatch.setattr(
        SampleFolder, "record", lambda self, *a: evaluated.append(a[1].number) or record(self, *a)
    )
    assert main(command(toy, output, "--resume")) == 0
    assert evaluated == list(range(16)) and same(output, sampled)
    assert main(command(toy, output, "--resume")) == 0
    assert "holds the finished sample already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--n 0", "--n is 0; it should be at least 1"),
        ("--sizes 0", "--sizes is 0"),
        ("--batch-size 0", "--batch-size is 0"),
        ("--split test --selection 2-per-class", "--selection needs --split selection"),
        ("--max-params 0.001", "--max-params 0.001: no subnet meets this limit"),
        ("--architecture nobody", "has no architecture 'nobody'"),
        ("--architecture missing.yaml", "there is no such file"),
        ("--space digits", "another search space than 'digits'"),
        ("--selection none", "a search needs images"),
        ("--device cuda:77", "--device cuda:77"),
        ("--checkpoint nowhere.pth", "there is no such checkpoint"),
    ],
)
def test_bad_flags_are_sentences(toy, tmp_path, capsys, flags, words):
    assert main(command(toy, tmp_path / "s", *flags.split())) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert words in error and error.startswith("nni-autoformer: error: ")
    assert not (tmp_path / "s").exists()


def test_a_subnet_is_no_supernet(toy, tmp_path, capsys):
    flags = f"--checkpoint {toy}/run/supernet.safetensors --architecture middle --to timm"
    assert main(["convert", *flags.split(), "--output", f"{tmp_path}/a.safetensors"]) == 0
    words = command(toy, tmp_path / "s", "--checkpoint", f"{tmp_path}/a.safetensors")
    assert main(words) == 2
    assert "a supernet is needed here" in capsys.readouterr().err


# Several processes, and kills

SLOWLY = """
import sys, time
from nni_autoformer.search import evaluator
measure = evaluator.measure
evaluator.measure = lambda *a, **k: (time.sleep(float(sys.argv[1])), measure(*a, **k))[1]
from nni_autoformer.cli import main
sys.exit(main(sys.argv[2:]))
"""


def answers(output):
    """How many there are; 0 while the first process is putting them together."""
    try:
        return sum(len(file.read_text().splitlines()) for file in output.glob("samples*.jsonl"))
    except FileNotFoundError:
        return 0


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "slowly.py"
    path.write_text(SLOWLY)
    return path


@pytest.mark.slow
def test_two_processes_leave_the_same_files_and_one_sentence(toy, sampled, tmp_path, script):
    words, printed = command(toy, tmp_path / "s"), tmp_path / "printed"
    assert finish(torchrun(2, script, [0, *words])) == 0
    assert same(tmp_path / "s", sampled)
    assert finish(torchrun(2, script, [0, *words], output=printed)) != 0
    assert printed.read_text().count("nni-autoformer: error: ") == 1  # told once, not by each process


@pytest.mark.slow
def test_killed_and_resumed_with_other_numbers_of_processes(toy, sampled, tmp_path, script):
    output = tmp_path / "s"
    first, *others = ((1, 3), (3, 7), (2, 12))
    for size, count in (first, *others):
        words = command(toy, output, *([] if (size, count) == first else ["--resume"]))
        process = torchrun(size, script, [0.2, *words])
        wait_for(lambda count=count: answers(output) >= count, process, every=0.01)
        kill(process)
        assert json.loads((output / "run.json").read_text())["status"] == "running"
    assert answers(output) < 16
    assert main(command(toy, output, "--resume")) == 0
    assert same(output, sampled)


@pytest.mark.slow
def test_torchrun_starts_a_killed_sample_again_by_itself(toy, sampled, tmp_path, script):
    output = tmp_path / "s"
    process = torchrun(2, script, [0.2, *command(toy, output)], "--max_restarts", "2")
    wait_for(lambda: answers(output) >= 5, process, every=0.01)
    psutil.Process(process.pid).children()[-1].kill()
    assert finish(process) == 0
    assert same(output, sampled)
