"""`nni-autoformer latency`: a table measured, killed and resumed; predicted beside measured; wrong input."""

import json
import sys
from itertools import islice

import pytest
import torch

from nni_autoformer import SearchSpace, cli
from nni_autoformer.jobs import Measuring, measure_latency
from nni_autoformer.latency.rounds import turns
from nni_autoformer.latency_table import Conditions, LatencyTable
from tests.latency_tables import invented
from tests.processes import finish, kill, start, wait_for

FEW = SearchSpace("few", (48,), (1, 2), (1,), (2.0, 3.0), SearchSpace.load("digits").model)


@pytest.fixture
def few(tmp_path):
    FEW.to_yaml(tmp_path / "few.yaml")
    return tmp_path / "few.yaml"


def error_of(words, capsys):
    """The sentence that a command line ends with."""
    assert cli.main([str(word) for word in words]) == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("nni-autoformer: error: ")


def test_a_table_is_measured_and_predicts_what_is_measured_beside_it(few, tmp_path, capsys):
    output = tmp_path / "deep" / "latency.yaml"
    words = ["latency", "--space", few, "--output", output, "--rounds", "2", "--batch-size", "2"]
    assert cli.main([str(word) for word in words]) == 0
    printed = capsys.readouterr()
    table = LatencyTable.load(output)
    assert table.space == FEW
    assert table.conditions == Conditions(batch_size=2)
    assert set(table.subnets) == set(FEW)  # all that there are
    assert table.error.told in printed.out
    assert table.versions["torch"]
    assert [path.name for path in output.parent.iterdir()] == ["latency.yaml"]
    FEW.largest.to_yaml(tmp_path / "best.yaml")
    words = [
        "latency",
        "--table",
        output,
        "--architecture",
        tmp_path / "best.yaml",
        "smallest",
        "--rounds",
        "2",
    ]
    assert cli.main([str(word) for word in words]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == [f"{table.predicted(net):.2f}" for net in (FEW.largest, FEW.smallest)]
    assert all(float(row[2]) > 0 for row in rows)


def test_a_finished_table_is_kept(few, tmp_path, capsys):
    invented(FEW).save(tmp_path / "latency.yaml")
    before = (tmp_path / "latency.yaml").read_text()
    found = measure_latency(FEW, tmp_path / "latency.yaml", resume=True)
    assert not found.fresh
    assert found.table == invented(FEW)
    words = ["latency", "--space", few, "--output", tmp_path / "latency.yaml"]
    assert "exists already; replace it with --overwrite" in error_of(words, capsys)
    assert "was measured with torch on cpu, batch size 1" in error_of(
        [*words, "--resume", "--batch-size", "4"], capsys
    )
    assert (tmp_path / "latency.yaml").read_text() == before


def interrupted(tmp_path):
    """A measurement that was stopped in its first round."""
    from nni_autoformer.jobs.latency_state import LatencyState

    record = LatencyState.record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatencyState, "record", lambda *told: (record(*told), sys.exit())[0])
        with pytest.raises(SystemExit):
            measure_latency(FEW, tmp_path / "latency.yaml", measuring=Measuring(rounds=2))
    return tmp_path / "latency.yaml.measuring"


def test_an_unfinished_measurement_goes_on_with_resume_alone(few, tmp_path, capsys):
    state = interrupted(tmp_path)
    words = ["latency", "--space", few, "--output", tmp_path / "latency.yaml", "--rounds", "2"]
    assert "holds an unfinished measurement: continue it with --resume" in error_of(words, capsys)
    assert "rounds was 2 when the measurement began and is 3 now" in error_of(
        [*words[:-1], "3", "--resume"], capsys
    )
    whole = state.read_text()
    state.write_text(whole.replace('"piece": ', '"piece": 1'))
    assert "latency.yaml.measuring, line 2: the file is damaged here" in error_of(
        [*words, "--resume"], capsys
    )
    state.write_text(whole + '{"round": 0, "pie')  # a kill has cut the last line
    invented(FEW).save(tmp_path / "latency.yaml")  # it was to be replaced
    assert cli.main([*map(str, words), "--resume"]) == 0
    assert not state.exists()
    assert LatencyTable.load(tmp_path / "latency.yaml") != invented(FEW)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--runtime", "tvm"], "argument --runtime: 'tvm' is not known; it should be one of torch"),
        (["--threads", "0"], "--threads is 0; it should be from 1 to 4,096"),
        (["--batch-size", "-3"], "--batch-size is -3"),
        (["--rounds", "0"], "--rounds is 0; it should be at least 1"),
        (["--subnets", "5"], "--subnets is 5; it should be at least 30"),
        (["--runtime", "onnxruntime", "--precision", "bf16"], "networks are exported in fp32"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["--architecture", "middle"], "--architecture needs --table"),
    ],
)
def test_wrong_input_is_a_sentence_before_anything_is_written(few, tmp_path, capsys, flags, sentence):
    words = ["latency", "--space", str(few), "--output", str(tmp_path / "latency.yaml"), *flags]
    try:
        assert cli.main(words) == 2
    except SystemExit as error:  # argparse's own
        assert error.code == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["few.yaml"]


def test_wrong_places_are_sentences(few, tmp_path, capsys):
    space = ["latency", "--space", few]
    assert error_of(space, capsys).startswith("--output is missing")
    assert error_of(["latency", "--output", tmp_path / "a.yaml"], capsys).startswith("--space is missing")
    assert "is a folder" in error_of([*space, "--output", tmp_path], capsys)
    assert "cannot be written" in error_of([*space, "--output", few / "a.yaml"], capsys)
    invented(FEW).save(tmp_path / "table.yaml")
    table = ["latency", "--table", tmp_path / "table.yaml"]
    assert "--table needs --architecture" in error_of(table, capsys)
    assert "--table excludes --space" in error_of([*table, *space[1:]], capsys)
    assert "no architecture 'best'" in error_of([*table, "--architecture", "best"], capsys)
    assert "was measured with 1; leave the flag out" in error_of(
        [*table, "--architecture", "middle", "--threads", "2"], capsys
    )
    assert "there is no such file" in error_of(
        ["latency", "--table", tmp_path / "no.yaml", "--architecture", "middle"], capsys
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_a_sentence(few, tmp_path, capsys):
    words = ["latency", "--space", few, "--output", tmp_path / "latency.yaml", "--device", "cuda"]
    assert error_of(words, capsys).startswith("--device cuda: there is no such device here")


@pytest.mark.parametrize(("runtime", "package"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime")])
def test_a_missing_extra_is_a_sentence(few, tmp_path, capsys, monkeypatch, runtime, package):
    monkeypatch.setitem(sys.modules, package, None)
    extra = "onnx" if runtime == "onnxruntime" else "openvino"
    words = ["latency", "--space", few, "--output", tmp_path / "latency.yaml", "--runtime", runtime]
    told = f"--runtime {runtime} needs the package {package}: pip install 'nni-autoformer[{extra}]'."
    assert error_of(words, capsys) == told


@pytest.mark.slow
def test_killed_and_resumed_in_the_same_order(tmp_path):
    output = tmp_path / "latency.yaml"
    state = tmp_path / "latency.yaml.measuring"
    words = ["latency", "--space", "digits", "--output", output, "--rounds", "8"]
    lines = []
    for least in (20, 90):
        process = start([*words, "--resume"])
        wait_for(lambda least=least: state.is_file() and state.read_text().count("\n") > least, process)
        kill(process)
        before, lines = lines, state.read_text().split("\n")[:-1]
        assert lines[: len(before)] == before
    rows = [json.loads(line) for line in lines[1:]]
    pieces = 33 + 30
    assert [(row["round"], row["piece"]) for row in rows] == list(islice(turns(pieces, 8, 0), len(rows)))
    assert finish(start([*words, "--resume"])) == 0
    assert len(LatencyTable.load(output).subnets) == 30
    assert not state.exists()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["compile", "onnxruntime", "openvino"])
def test_other_runtimes(few, tmp_path, runtime):
    package = "torch" if runtime == "compile" else runtime
    pytest.importorskip(package)
    conditions = Conditions(runtime=runtime, batch_size=2)
    found = measure_latency(
        few, tmp_path / "latency.yaml", conditions=conditions, measuring=Measuring(rounds=2)
    )
    assert found.table.versions[package][0].isdigit()
    assert len(found.table.subnets) == FEW.size
