"""Results from every kind of file, the Pareto front, and the published numbers of other networks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_autoformer import Architecture, ConfigError, SearchSpace
from nni_autoformer.complexity import macs, params
from nni_autoformer.report.results import Result, pareto, read_peers, read_series, to_csv

CSV = """# a remark
name,family,params_m,macs_g,top1

A,one,5.7,1.3,72.2
"B, wide",,22,,79.9
"""


def write(path, text):
    path.write_text(text)
    return str(path)


def test_a_csv_of_the_users(tmp_path):
    series = read_series(write(tmp_path / "mine.csv", CSV))
    assert (series.label, series.kind, series.split) == ("mine", "table", "")
    assert series.results == (
        Result(72.2, {"params": pytest.approx(5.7e6), "macs": pytest.approx(1.3e9)}, "A", "one"),
        Result(79.9, {"params": 22e6}, "B, wide"),
    )
    assert read_series(f"our runs={tmp_path / 'mine.csv'}").label == "our runs"


def test_timms_tables(tmp_path):
    text = 'model,top1,top1_err,param_count,infer_gmacs\nvit,81.1,18.9,"1,044.80",8.5\n'
    assert read_series(write(tmp_path / "t.csv", text)).results == (
        Result(81.1, {"params": 1044.8e6, "macs": 8.5e9}, "vit"),
    )


def test_the_winner_of_a_search_is_its_best_and_else_the_lower_loss(tmp_path):
    one, other = ({"embed_dim": 64, "num_heads": [1] * d, "mlp_ratio": [2.0] * d} for d in (2, 3))
    rows = [
        {"params": 5000, "accuracy": 60.0, "loss": 0.5, "architecture": {**one, "depth": 2}},
        {"params": 6000, "accuracy": 60.0, "loss": 0.4, "architecture": {**one, "depth": 2}},
        {
            "params": 7000,
            "accuracy": 50.0,
            "loss": 0.3,
            "architecture": Architecture.from_dict(other).to_dict(),
        },
    ]
    write(tmp_path / "candidates.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read_series(str(tmp_path)).best().costs["params"] == 6000
    Architecture.from_dict(other).to_yaml(tmp_path / "best.yaml")
    assert read_series(str(tmp_path)).best().costs["params"] == 7000
    write(tmp_path / "best.yaml", "[")
    assert read_series(str(tmp_path)).best().costs["params"] == 6000


def test_json_and_json_lines(tmp_path):
    rows = [{"params": 5000, "top1": 50}, {"params": 6000, "accuracy": 60.5, "name": "b"}]
    expected = (Result(50, {"params": 5000}), Result(60.5, {"params": 6000}, name="b"))
    assert read_series(write(tmp_path / "a.json", json.dumps(rows))).results == expected
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert read_series(write(tmp_path / "a.jsonl", lines + "\n")).results == expected
    assert read_series(write(tmp_path / "one.json", json.dumps(rows[0]))).results == expected[:1]


def test_folders_of_searches_and_samples(tmp_path):
    search, sample = tmp_path / "search", tmp_path / "sample"
    search.mkdir()
    sample.mkdir()
    rows = [
        {"number": 0, "origin": "random", "params": 5000, "macs": 9000, "accuracy": 40.0},
        {"number": 1, "origin": "mutation", "params": 4000, "macs": 8000, "accuracy": None, "failed": True},
        {
            "number": 1,
            "origin": "random",
            "params": 9,
            "macs": 9,
            "accuracy": None,
            "stopped": 1,
            "top1": 99.0,
        },
        {"number": 2, "origin": "mutation", "params": 4000, "macs": 8000, "accuracy": 60.0},
        {"number": 3, "origin": "crossover", "params": 3000, "macs": 7000, "accuracy": 60.0},
    ]
    write(search / "candidates.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    series = read_series(str(search))
    assert (series.label, series.kind, series.split) == ("search", "search", "selection")
    assert len(series.results) == 3 and series.best() == Result(60.0, {"params": 4000, "macs": 8000})
    rows = [
        {
            "origin": "random",
            "name": "",
            "params": 5000,
            "macs": 9000,
            "accuracy": 1,
            "top1": 40.0,
            "split": "test",
        },
        {"origin": "given", "name": "best", "params": 4000, "macs": 8000, "top1": 60.0, "split": "test"},
    ]
    write(sample / "samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    series = read_series(str(sample))
    assert (series.kind, series.split) == ("sample", "test")
    assert series.results == (
        Result(40.0, {"params": 5000, "macs": 9000}),
        Result(60.0, {"params": 4000, "macs": 8000}, "best", given=True),
    )


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.csv",
            "name,params,top1\nx,5.7,70\n",
            "line 2: params is 5.7; it should be a count. Give numbers in M",
        ),
        (
            "a.csv",
            "name,macs,top1\nx,1.3,70\n",
            "line 2: macs is 1.3; it should be a count. Give numbers in G",
        ),
        ("a.csv", "# x\nname,params\n\nx,5000\n", "line 4: the accuracy is missing"),
        ("a.csv", "params,top1\n5000,170\n", "line 2: top1 is 170; it should be in percent"),
        ("a.csv", "params,top1\n5000,good\n", "top1 is 'good'; it should be a number"),
        ("a.csv", "params,top1\nnan,50\n", "params is 'nan'; it should be a number"),
        ("a.csv", "params,top1\n", "there are no results in it"),
        ("a.csv", "", "there are no results in it"),
        ("a.json", "[1]", "entry 1: a result should have keys with values"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", '[{"params": true, "top1": 5}]', "params is True; it should be a number"),
        ("a.jsonl", '{"top1": 5}\nx\n', "line 2: this is not valid JSON"),
        ("a.jsonl", "[" * 50_000, "line 1: this is not valid JSON"),
        ("a.json", "[" * 50_000, "cannot be read as JSON"),
        ("a.jsonl", '{"top1": 5, "top1": 6}', "line 1: this is not valid JSON (duplicate key 'top1')"),
        ("a.json", '{"top1": 5, "top1": 6}', "duplicate key 'top1'"),
        ("a.csv", "params,params,top1\n5000,6000,7\n", "the column 'params' stands there twice"),
        ("a.csv", f"params,top1,name\n5000,7,{'n' * 200_000}\n", "line 1: this is no CSV"),
        ("a.txt", "", "results are read from .jsonl, .json and .csv files"),
    ],
)
def test_bad_files_are_sentences_with_their_place(tmp_path, name, text, words):
    with pytest.raises(ConfigError) as error:
        read_series(write(tmp_path / name, text))
    assert words in str(error.value) and name in str(error.value)


def test_a_mark_of_the_byte_order_does_no_harm(tmp_path):
    for name, text in (("a.json", '[{"params": 5000, "top1": 7}]'), ("a.csv", "params,top1\n5000,7\n")):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert read_series(str(tmp_path / name)).best().top1 == 7


def test_no_such_place_and_a_folder_of_something_else(tmp_path):
    for word in (f"{tmp_path}/nothing", f"label={tmp_path}/nothing"):
        with pytest.raises(ConfigError, match="nothing: there is no such file or folder"):
            read_series(word)
    with pytest.raises(ConfigError, match="the folder holds no results"):
        read_series(str(tmp_path))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))))
def test_the_front_is_what_nothing_dominates(points):
    front = pareto(points, lambda point: point[0], lambda point: point[1])
    wanted = {
        (cost, accuracy)
        for cost, accuracy in points
        if not any((c <= cost and a >= accuracy) and (c, a) != (cost, accuracy) for c, a in points)
    }
    assert front == sorted(wanted)


def test_a_csv_comes_back(tmp_path):
    text = to_csv([{"name": 'a "b"', "num_heads": [3, 4], "params": 5000}], ("name", "num_heads", "params"))
    assert text == 'name,num_heads,params\n"a ""b""",3 4,5000\n'


@pytest.mark.slow
def test_the_peers_have_the_parameters_of_timms_models():
    import timm
    import torch

    peers = {peer.name: peer for peer in read_peers()}
    names = {
        "ViT-B/16 (384)": "vit_base_patch16_384",
        "DeiT-T": "deit_tiny_patch16_224",
        "DeiT-S": "deit_small_patch16_224",
        "DeiT-B": "deit_base_patch16_224",
        "DeiT III-S": "deit3_small_patch16_224",
        "ViT-wee (256)": "vit_wee_patch16_reg1_gap_256",
        "ViT-little (256)": "vit_little_patch16_reg4_gap_256",
        "TinyViT-5M": "tiny_vit_5m_224",
        "TinyViT-11M": "tiny_vit_11m_224",
        "Swin S3-T": "swin_s3_tiny_224",
        "Swin S3-S": "swin_s3_small_224",
        "Swin S3-B": "swin_s3_base_224",
    }
    with torch.device("meta"):
        for name, model in names.items():
            network = timm.create_model(model, num_classes=1000)
            assert (
                sum(parameter.numel() for parameter in network.parameters()) == peers[name].costs["params"]
            ), name


def test_autoformer_among_the_peers_is_the_published_one():
    peers = {peer.name: peer for peer in read_peers()}
    for letter, space in (("T", "tiny"), ("S", "small"), ("B", "base")):
        loaded = SearchSpace.load(space)
        architecture = loaded.architectures["published"]
        peer = peers[f"AutoFormer-{letter}"]
        assert (peer.costs["params"], peer.costs["macs"]) == (
            params(architecture, loaded.model),
            macs(architecture, loaded.model),
        )
    # a plain ViT, counted as this package counts
    plain = 196 * 768 * 768 + 12 * (4 * 197 * 768**2 + 2 * 197**2 * 768 + 2 * 197 * 768 * 3072) + 768 * 1000
    assert peers["DeiT-B"].costs["macs"] == plain
