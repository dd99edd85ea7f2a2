"""A subnet whose logits are not finite is named by a sample and takes no part in its ranking."""

import json

import pytest
import torch

from nni_autoformer import load_supernet, save_supernet
from nni_autoformer.cli import main


@pytest.fixture
def sample(toy, tmp_path):
    """Sample the toy's supernet after a change of its weights; the exit status."""

    def run(change, *more):
        supernet, header = load_supernet(toy / "run" / "supernet.safetensors")
        with torch.no_grad():
            change(supernet)
        path = tmp_path / "supernet.safetensors"
        save_supernet(path, supernet, header.run.to_dict())
        (tmp_path / "selection.txt").write_text((toy / "run" / "selection.txt").read_text())
        words = f"sample --checkpoint {path} --data {toy}/images --output {tmp_path}/s -n 8 --device cpu"
        return main([*words.split(), "--cache", "none", *more])

    return run


def widest(supernet):
    supernet.norm.weight[-1] = float("inf")


def everything(supernet):
    supernet.norm.weight.fill_(float("nan"))


def test_it_is_named_and_not_ranked(sample, tmp_path, capsys):
    assert sample(widest, "--architecture", "smallest", "--architecture", "largest") == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in (tmp_path / "s" / "samples.jsonl").read_text().splitlines()]
    wide = [row for row in rows if row["architecture"]["embed_dim"] == 32]
    assert 0 < len(wide) < len(rows) == 10
    assert [row for row in rows if row.get("failed")] == wide
    assert all(row["top1"] is None for row in wide)
    for row in wide:
        assert f"Subnet {row['number']} " in captured.err and "embed_dim 32" in captured.err
    assert "Subnet 9 'largest'" in captured.err
    assert any(
        line.startswith("without an accuracy") and ": logits NaN or infinite" in line
        for line in captured.out.splitlines()
    )
    for name in ("pareto.json", "sizes.json"):
        content = json.loads((tmp_path / "s" / name).read_text())
        chosen = [entry.get("best", entry)["number"] for entry in content]
        assert chosen and not {row["number"] for row in wide} & set(chosen)
    assert main(["plot", str(tmp_path / "s"), "--output", str(tmp_path / "x.png")]) == 0


def test_where_all_are_so_a_sentence_says_it(sample, capsys):
    assert sample(everything) == 2
    assert "none of the 3 subnets so far has an accuracy" in capsys.readouterr().err
