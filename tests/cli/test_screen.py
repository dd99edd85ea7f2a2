"""What a person sees of a command: what it is going to do, its result, and the command to give next."""

import json
import logging
import shlex
import warnings

import pytest

from nni_autoformer import jobs
from nni_autoformer.cli import build_parser, main
from nni_autoformer.cli.screen import log_shown, set_level
from nni_autoformer.experiment.quiet import quieten_libraries
from nni_autoformer.search.evaluation import Evaluation


def seen(capsys, words):
    """Standard output and standard error of a command that succeeds."""
    assert main(words if isinstance(words, list) else words.split()) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def next_of(err):
    """The last command that is named as the next one; it must be one that there is."""
    words = shlex.split(err.splitlines()[-1].removeprefix("Next: "))
    assert words[0] == "nni-autoformer"
    build_parser().parse_args(words[1:])
    return words[1:]


SEARCH = "--population-size 4 --num-mutations 2 --num-crossovers 1 --generations 3 --max-params 0.04"


def test_from_training_to_a_file_for_others(toy, toy_command, tmp_path, capsys):
    """Each command names the next, and that one can be given as it is."""
    out, err = seen(capsys, toy_command(toy, tmp_path / "run"))
    assert out.startswith("top-1 on the selection images: smallest ") and out.count("\n") == 2
    assert out.endswith(f"The supernet is in {tmp_path}/run/supernet.safetensors\n")
    assert (
        "Training for 3 epochs on 48 images of 3 classes, 12 more held out; on cpu in fp32, 8 images" in err
    )
    assert "learning rate up to " in err and "\r" not in err
    lines = [line for line in err.splitlines() if line.startswith("epoch ")]
    assert lines[0].startswith("epoch 1/3, 0:0") and lines[-1].startswith("epoch 3/3, 0:0")
    assert "top-1 smallest " in lines[-1] and lines[-1].endswith(" %") and len(lines) == 2

    out, err = seen(capsys, [*next_of(err), "--device", "cpu", *SEARCH.split()])
    assert "top-1 on the selection images" in out and " M\n" in out and "Images" not in out
    assert "Searching the 40 subnets of 'toy' with at most 0.04 M parameters: 12 candidates in 3 gen" in err
    assert "each on 12 selection images of 3 classes; on cpu in fp32." in err
    lines = [line for line in err.splitlines() if line.startswith("generation ")]
    assert lines[0].startswith("generation 1/3, ") and lines[-1].startswith("generation 3/3, ")
    assert len(lines) == 2

    out, err = seen(capsys, [*next_of(err), "--device", "cpu"])
    assert "top-1" in out and "Testing embed_dim" in err and "24 test images in val/" in err
    assert "on the test images of 3 classes; on cpu in fp32." in err
    words = next_of(err)
    assert words[0] == "export"
    words = [*words[: words.index("--format")], "--format", "safetensors", "--output", f"{tmp_path}/b.st"]
    out, err = seen(capsys, words)
    assert "logits within" in out and "Exporting embed_dim" in err and " M parameters, " in err
    out, err = seen(capsys, next_of(err))
    assert "one subnet" in out and next_of(err)[0] == "test"


def test_a_sample_and_a_retraining_say_it_too(toy, tmp_path, capsys):
    data = f"--data {toy}/images --device cpu --output {tmp_path}"
    out, err = seen(capsys, f"sample --checkpoint {toy}/run/supernet.safetensors --n 5 {data}/sample")
    assert "random subnets" in out and next_of(err) == ["plot", f"{tmp_path}/sample"]
    assert "Evaluating 5 of the 40 subnets of 'toy', each on 12 selection images of 3 classes; on cpu" in err
    assert "sample, done in 0:0" in err and "5/5 subnets" in err
    space = f"--space {toy}/space.yaml --architecture middle"
    out, err = seen(capsys, f"retrain {space} {data}/re --epochs 1 --batch-size 8 --model-ema")
    assert "top-1 on the test images: " in out and "top-1 of the moving average on the test images: " in out
    assert "Training for 1 epoch on 60 images of 3 classes, none held out;" in err
    assert next_of(err)[0] == "export"


def test_a_test_as_json(toy, capsys):
    words = f"test --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --architecture middle"
    out, _ = seen(capsys, f"{words} --device cpu --json")
    printed = json.loads(out)
    found = jobs.test(
        toy / "run" / "supernet.safetensors",
        toy / "images",
        architecture="middle",
        evaluation=Evaluation(device="cpu"),
    )
    assert (printed["top1"], printed["top5"], printed["images"]) == (found.top1, found.top5, 24)
    assert printed["loss"] == found.loss > 0
    assert printed["params_m"] == found.costs["params"] / 1e6
    assert printed["macs_g"] == found.costs["macs"] / 1e9
    assert printed["architecture"] == found.architecture.to_dict() and printed["split"] == "test"


def test_a_test_as_json_can_be_plotted(toy, tmp_path, capsys):
    words = f"test --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --architecture middle"
    (tmp_path / "t.json").write_text(seen(capsys, f"{words} --device cpu --json")[0])
    out, _ = seen(capsys, f"plot {tmp_path}/t.json --output {tmp_path}/t.png")
    assert "t.png" in out


def test_quiet_says_nothing_but_results(toy, toy_command, tmp_path, capsys):
    out, err = seen(capsys, toy_command(toy, tmp_path / "run", "-q"))
    assert err == "" and out.count("\n") == 2


@pytest.fixture
def level():
    """The logger's level and Python's filters of warnings, put back afterwards."""
    logger = logging.getLogger("nni_autoformer")
    before = logger.level
    with warnings.catch_warnings():
        warnings.resetwarnings()
        yield logger
    logger.setLevel(before)


def test_verbose_lets_the_libraries_speak(level):
    lightning = logging.getLogger("pytorch_lightning")
    before = lightning.level
    lightning.setLevel(logging.INFO)
    try:
        set_level(build_parser().parse_args(["demo", "-v"]))
        quieten_libraries()
        assert not warnings.filters and lightning.level == logging.INFO and level.level == logging.DEBUG
        set_level(build_parser().parse_args(["demo"]))
        quieten_libraries()
        assert warnings.filters and lightning.level == logging.ERROR and level.level == logging.INFO
    finally:
        lightning.setLevel(before)


def test_the_python_api_says_it_to_the_logger(toy, caplog, capsys):
    with caplog.at_level(logging.INFO, "nni_autoformer"):
        jobs.test(
            toy / "run" / "supernet.safetensors",
            toy / "images",
            architecture="middle",
            evaluation=Evaluation(device="cpu"),
        )
    assert any(text.startswith("Testing embed_dim") for text in caplog.messages)
    assert capsys.readouterr().out == ""


def test_on_a_terminal_sentences_break_between_words_and_commands_not_at_all(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    text = "Training for 3 epochs on 48 images of 3 classes, 12 more held out; on cpu in fp32."
    with log_shown():
        logger = logging.getLogger("nni_autoformer")
        logger.info(text)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        logger.info(text)
        logger.info(f"Next: {text}")
    whole, *lines, command = capsys.readouterr().err.splitlines()
    assert whole == text == " ".join(lines) and command == f"Next: {text}"
    assert len(lines) == 3 and max(map(len, lines)) <= 40
