"""Figures: formats, the same file for the same results, and names that do not hide each other."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from nni_autoformer import Evolution, EvolutionConfig, Limits, SearchSpace
from nni_autoformer.report.figures import draw_candidates, draw_comparison, draw_samples
from nni_autoformer.report.labels import Label, place_labels
from nni_autoformer.report.results import Result, Series, pareto, read_peers
from nni_autoformer.search.random_subnets import SampledSubnet, best_of_sizes, draw_subnets

MAGIC = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
PEERS = read_peers()
SEARCH = Series(
    "a search",
    tuple(Result(70 + i % 9, {"params": 5e6 + 3e4 * i, "macs": 1e9 + 1e7 * i}) for i in range(40)),
    "search",
    "selection",
)


@pytest.mark.parametrize(
    ("suffix", "against"), [*((suffix, "params") for suffix in MAGIC), (next(iter(MAGIC)), "macs")]
)
def test_every_format_is_written_whole_and_the_same_twice(tmp_path, suffix, against):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for path in (first, second):
        draw_comparison([SEARCH], PEERS[::3], path, against=against, log=against == "macs", title="x")
    assert first.read_bytes().startswith(MAGIC[suffix])
    assert first.read_bytes() == second.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [first.name, second.name]


def test_a_figure_says_what_it_shows(tmp_path):
    table = Series("a table", (Result(80.0, {"params": 3e7}, name="mine"),))
    draw_comparison([SEARCH, table], PEERS, tmp_path / "a.svg", title="Everything")
    text = (tmp_path / "a.svg").read_text()
    for words in ("parameters (M)", ">top-1 (%)<", "a search (selection images), best 78.00 %"):
        assert words in text
    for words in ("a table", "mine", "Everything", "published ImageNet results", *(p.name for p in PEERS)):
        assert words in text
    draw_comparison([SEARCH], [], tmp_path / "b.svg", against="macs")
    text = (tmp_path / "b.svg").read_text()
    assert "MACs (G)" in text and "ImageNet" not in text
    draw_comparison([], PEERS[:3], tmp_path / "c.svg")
    assert "top-1 on ImageNet (%)" in (tmp_path / "c.svg").read_text()


def sample_rows():
    space = SearchSpace.load("digits")
    subnets = [
        SampledSubnet(number, architecture) for number, architecture in enumerate(draw_subnets(space, 60))
    ]
    subnets.append(SampledSubnet(60, space.largest, "largest"))
    return [
        {**subnet.row(space), "top1": 90 + subnet.number % 8, "images": 40, "split": "test"}
        for subnet in subnets
    ]


def test_a_sample_has_its_sizes_front_and_named_subnets(tmp_path):
    rows = sample_rows()
    front, size = pareto(rows, lambda row: row["params"], lambda row: row["top1"]), rows[-1]["params"] / 1e6
    draw_samples(rows, best_of_sizes(rows, 5), front, "digits", tmp_path / "s.svg")
    text = (tmp_path / "s.svg").read_text()
    for words in ("60 random subnets of", "top-1 on the test images (%)", "embed_dim 48", "embed_dim 80"):
        assert words in text
    assert "Pareto front" in text and "mean of a size" in text and f"largest: 94.00 %, {size:.3g} M" in text


def test_candidates_have_their_limits_and_winner(tmp_path):
    evolution = Evolution(
        SearchSpace.load("digits"), Limits(max_params=0.25), EvolutionConfig(5, 2, 2, 1, generations=2)
    )
    for number in range(10):
        evolution.tell(evolution.ask().number, 50 + number)
    draw_candidates(evolution, tmp_path / "c.svg")
    text = (tmp_path / "c.svg").read_text()
    assert "max 0.25 M" in text and "winner: 59.00 %" in text and "generation" in text


def place(labels, points, lines=()):
    """The boxes of names after they are placed, the axes' frame and the points, in pixels."""
    figure, axes = plt.subplots(figsize=(7.5, 5.4), layout="constrained")
    axes.scatter(*zip(*points))
    place_labels(axes, labels, points, lines, 7.5)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    frame = axes.get_window_extent(renderer)
    spots = axes.transData.transform(points)
    plt.close(figure)
    return boxes, frame, spots


def overlap(one, other):
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1 and height > 1


def inside(box, frame):
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


@pytest.fixture
def named(monkeypatch):
    """What a figure's names keep off, after it is drawn: boxes and points in pixels, by the call."""
    calls = []

    def watched(axes, labels, points, lines, size):
        place_labels(axes, labels, points, lines, size)
        axes.figure.draw_without_rendering()
        renderer = axes.figure.canvas.get_renderer()
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        calls.append((boxes, axes.get_window_extent(renderer), axes.transData.transform(points)))

    monkeypatch.setattr("nni_autoformer.report.figures.place_labels", watched)
    return calls


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("against", ["params", "macs"])
def test_the_peers_names_keep_off_each_other_and_the_points(tmp_path, named, against, log):
    draw_comparison([], PEERS, tmp_path / "a.png", against=against, log=log)
    ((boxes, frame, spots),) = named
    assert len(boxes) == sum(against in peer.costs for peer in PEERS)
    assert not any(overlap(*pair) for pair in combinations(boxes, 2))
    assert all(inside(box, frame) for box in boxes)
    assert not any(box.contains(x, y) for box in boxes for x, y in spots)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12, unique=True))
def test_names_of_any_points_keep_off_each_other(points):
    labels = [Label(f"network {number}", *at) for number, at in enumerate(points)]
    boxes, frame, _ = place(labels, points)
    assert len(boxes) == len(points)
    assert not any(overlap(*pair) for pair in combinations(boxes, 2))
    assert all(inside(box, frame) for box in boxes)
