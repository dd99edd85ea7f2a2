"""The figure of a front: a panel per cost, limits, numbers and errors."""

import pytest

from nni_autoformer import Evolution, EvolutionConfig, Limits, SearchSpace
from nni_autoformer.report.front_figure import draw_front
from nni_autoformer.report.summary import front_text
from nni_autoformer.search.evolution import Candidate
from nni_autoformer.search.trade import front_of


def searched(pareto, limits=Limits(), details=None):
    """A search whose accuracy grows with the depth."""
    config = EvolutionConfig(population_size=20, generations=2, pareto=pareto)
    searcher = Evolution(SearchSpace.load("digits"), limits, config)
    while isinstance(candidate := searcher.ask(), Candidate):
        accuracy = 10.0 * candidate.architecture.depth + sum(candidate.architecture.num_heads) / 10
        searcher.ledger.tell(candidate.number, accuracy, details)
    return searcher


def test_it_shows_each_cost_with_its_limits_and_the_numbers_of_the_front(tmp_path):
    searcher = searched("params,memory", Limits(max_params=0.25, min_memory=0.4), {"images": 60})
    for name in ("a.svg", "b.svg"):
        draw_front(searcher, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = (tmp_path / "a.svg").read_text()
    members = front_of(searcher)
    for words in ("parameters (M)", "memory (MB)", "max 0.25 M", "min 0.4 MB", "dominated candidate"):
        assert words in text
    assert f"{len(members)} of 40 subnets of 'digits' are on the front" in text
    assert f">{members[0].number}<" in text and f">{members[-1].number}<" in text


@pytest.mark.parametrize("pareto", ["params", "params,macs,memory"])
def test_without_a_number_of_images_there_is_no_error(tmp_path, pareto):
    searcher = searched(pareto)
    draw_front(searcher, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "±" not in front_text(searcher)


def test_the_table_of_a_front_fits_a_terminal():
    lines = front_text(searched("params", details={"images": 60})).splitlines()
    assert lines[0].split() == ["front", "top-1", "%", "parameters", "MACs", "memory"]
    assert all(len(line) <= 80 and " ± " in line for line in lines[1:])
