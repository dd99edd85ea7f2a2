"""`plot`: results of any kind in one figure."""

import pytest

from nni_autoformer.cli import main


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("name,params_m,top1\na,5.9,76\nb,23,82\n")
    return path


def test_results_beside_the_peers(tmp_path, table, capsys):
    figure = tmp_path / "f" / "figure.svg"
    assert main(["plot", f"ours={table}", "--peers", "--output", str(figure)]) == 0
    printed = capsys.readouterr().out
    assert "ours" in printed and "82.00" in printed and "23.000 M" in printed and str(figure) in printed
    assert "DeiT-S" in figure.read_text()
    assert main(["plot", str(table), "--output", str(figure)]) == 0  # replaced
    assert "DeiT-S" not in figure.read_text()


def test_a_search_of_selection_images_beside_tests_is_remarked(toy, tmp_path, capsys):
    flags = f"search --checkpoint {toy}/run/supernet.safetensors --data {toy}/images --device cpu"
    small = "--population-size 3 --num-mutations 1 --num-crossovers 1 --generations 2"
    assert main([*flags.split(), *small.split(), "--output", f"{tmp_path}/search"]) == 0
    capsys.readouterr()
    assert main(["plot", f"{tmp_path}/search", "--against", "macs", "--output", f"{tmp_path}/a.png"]) == 0
    assert "not the same measure" not in capsys.readouterr().out
    assert main(["plot", f"{tmp_path}/search", "--peers", "--log", "--output", f"{tmp_path}/a.png"]) == 0
    printed = capsys.readouterr().out
    assert "selection images" in printed and "not the same measure" in printed
    assert "The published accuracies are on ImageNet; compare search with them only if those are" in printed
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_left_out_is_said(tmp_path, capsys):
    (tmp_path / "mine.csv").write_text("name,params_m,macs_g,top1\na,5.9,1.2,76\nb,23,,82\n")
    assert main(["plot", f"{tmp_path}/mine.csv", "--against", "macs", "--output", f"{tmp_path}/a.png"]) == 0
    assert "mine: 1 of 2 results have no macs and are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{table}", "--output", "{folder}/a.jpg"], "the name should end in .png, .pdf or .svg"),
        (["{table}", "--output", "{folder}/a"], "the name should end in"),
        (["--output", "{folder}/a.png"], "there is nothing to draw"),
        (["{folder}/nothing", "--output", "{folder}/a.png"], "there is no such file or folder"),
        (["{table}", "--against", "macs", "--output", "{folder}/a.png"], "no result has macs"),
        (["{table}", "--output", "{table}/a.png"], "cannot be written"),
    ],
)
def test_mistakes_are_sentences(tmp_path, table, capsys, words, sentence):
    filled = [word.format(table=table, folder=tmp_path) for word in words]
    assert main(["plot", *filled]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("nni-autoformer: error: ")
    assert not (tmp_path / "a.png").exists()
