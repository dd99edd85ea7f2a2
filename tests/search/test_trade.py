"""A search for the whole trade-off, on made-up accuracies: no images, and hypervolume as the judge."""

import csv
import json
import random
from statistics import median
from zlib import crc32

import numpy
import pytest

from nni_autoformer import ConfigError, SearchSpace
from nni_autoformer.costs import COSTS
from nni_autoformer.jobs import pick
from nni_autoformer.search.algorithms import searcher_with
from nni_autoformer.search.evolution import Answer, Candidate, Evolution, EvolutionConfig, Limits
from nni_autoformer.search.folder import SearchFolder
from nni_autoformer.search.front import hypervolume
from nni_autoformer.search.random_search import RandomConfig, RandomSearch
from nni_autoformer.search.trade import front_of, objectives, surviving
from tests.latency_tables import invented

DIGITS, TINY = SearchSpace.load("digits"), SearchSpace.load("tiny")
SHORT = EvolutionConfig(population_size=12, generations=4, seed=3, pareto="params")
BOTH = EvolutionConfig(population_size=12, generations=4, seed=3, pareto="params,macs")


def accuracy_of(architecture):
    """Grows with the sizes, but more with what is spent in the right layers; with an architecture's own
    luck."""
    heads, ratios = architecture.num_heads, architecture.mlp_ratio
    depth = len(heads)
    early = sum(ratio * (depth - layer) for layer, ratio in enumerate(ratios)) / depth
    late = sum(head * layer for layer, head in enumerate(heads)) / depth
    luck = crc32(str(architecture).encode()) % 100 / 100
    gain = 0.05 * architecture.embed_dim + 0.5 * early + 0.7 * late + 0.2 * depth + luck
    return 100 * (1 - 2.0 ** (-gain / 12))


def coarse(architecture):
    """As on few images: many candidates tie."""
    return round(accuracy_of(architecture) / 4) * 4


def finish(searcher, in_flight=1, shuffle=None, accuracy=accuracy_of):
    asked, out = [], []
    while True:
        step = searcher.ask() if len(out) < in_flight else Answer.WAIT
        if isinstance(step, Candidate):
            asked.append(step)
            out.append(step)
        elif step is Answer.DONE:
            return asked
        else:
            candidate = out.pop(shuffle.randrange(len(out)) if shuffle else 0)
            searcher.ledger.tell(candidate.number, accuracy(candidate.architecture), {"images": 400})


def volume(searchers, names=("params",)):
    """What all candidates of some searches dominate together, in units of the whole box."""
    trading = Evolution(TINY, Limits(), EvolutionConfig(pareto=",".join(names)))
    points = numpy.vstack([objectives(list(searcher.ledger), trading) for searcher in searchers])
    bounds = [COSTS[name].range(TINY) for name in names]
    scaled = [(points[:, i] - low) / (high - low) for i, (low, high) in enumerate(bounds)]
    return hypervolume(numpy.column_stack([*scaled, points[:, -1] / 100]), [1.0] * len(names) + [0.0])


def test_one_front_search_beats_random_search_and_separate_searches_of_the_same_budget():
    low, high = (count / 1e6 for count in COSTS["params"].range(TINY))
    budgets = [low + share * (high - low) for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    fronts, randoms, separate = [], [], []
    for seed in range(3):
        searchers = [
            Evolution(
                TINY,
                Limits(),
                EvolutionConfig(population_size=20, generations=10, seed=seed, pareto="params"),
            )
        ]
        finish(searchers[0])
        fronts.append(volume(searchers))
        searchers = [RandomSearch(TINY, Limits(), RandomConfig(20, 10, seed))]
        finish(searchers[0])
        randoms.append(volume(searchers))
        searchers = [
            Evolution(
                TINY, Limits(max_params=most), EvolutionConfig(population_size=10, generations=4, seed=seed)
            )
            for most in budgets
        ]
        for searcher in searchers:
            finish(searcher)
        assert sum(len(searcher.ledger) for searcher in searchers) == 200
        separate.append(volume(searchers))
    assert median(fronts) > median(randoms)
    assert median(fronts) > median(separate)


@pytest.mark.parametrize("config", [SHORT, BOTH])
def test_the_search_is_the_same_at_any_concurrency_and_in_any_order_of_answers(config):
    alone = finish(Evolution(DIGITS, Limits(max_params=0.3), config), accuracy=coarse)
    assert {candidate.origin for candidate in alone} == {"random", "mutation", "crossover"}
    for in_flight in (3, 7):
        for order in range(3):
            searcher = Evolution(DIGITS, Limits(max_params=0.3), config)
            assert finish(searcher, in_flight, random.Random(order), coarse) == alone


def test_a_state_saved_in_the_middle_of_a_generation_gives_the_same_proposals():
    whole = finish(Evolution(DIGITS, Limits(), BOTH))
    first, asked = Evolution(DIGITS, Limits(), BOTH), []
    for _ in range(29):
        candidate = first.ask()
        asked.append(candidate)
        first.tell(candidate.number, accuracy_of(candidate.architecture))
    second = Evolution(DIGITS, Limits(), BOTH)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [*asked, *finish(second)] == whole


def test_parents_are_the_survivors_of_complete_generations():
    searcher = Evolution(DIGITS, Limits(), SHORT)
    assert searcher.config.num_parents == 12
    for _ in range(30):
        candidate = searcher.ask()
        searcher.tell(candidate.number, accuracy_of(candidate.architecture))
    complete = [entry for entry in searcher.ledger if entry.candidate.generation < 2]
    ranked = sorted(complete, key=lambda entry: (-entry.accuracy, entry.candidate.number))
    points = objectives(ranked, searcher)
    expected = [ranked[place].candidate.architecture for place in surviving(points)[:12]]
    assert searcher.parents() == expected
    front = {member.architecture for member in by_definition(complete, ["params"])}
    assert front <= set(expected) or set(expected) <= front


def test_survivors_are_ordered_by_front_then_room_then_place():
    points = numpy.array([(0, 10), (1, 6), (4, 5), (10, 0), (4, 6), (11, 11), (1, 6)], dtype=float)
    # front 0: both ends, then the larger room of 1.5 before 0.9, the copy behind; then fronts 1 and 2
    assert surviving(points) == [0, 3, 2, 1, 6, 4, 5]
    assert surviving(numpy.empty((0, 2))) == []


def by_definition(entries, names):
    """The candidates that no other one beats, spelled out; of equal ones the first in the ledger's order."""

    def point(entry):
        architecture = entry.candidate.architecture
        return (-entry.accuracy, *(COSTS[name].value(architecture, DIGITS.model) for name in names))

    def beats(one, other):
        return one != other and all(a <= b for a, b in zip(one, other))

    ranked = sorted(entries, key=lambda entry: (-entry.accuracy, entry.candidate.number))
    kept = {}
    for entry in ranked:
        if not any(beats(point(other), point(entry)) for other in ranked):
            kept.setdefault(point(entry), entry.candidate)
    return list(kept.values())


@pytest.mark.parametrize("algorithm", [SHORT, BOTH, RandomConfig(12, 4, 3, pareto="memory")])
def test_the_folder_has_the_front_as_a_table_and_as_architectures(tmp_path, algorithm):
    searcher = searcher_with(DIGITS, Limits(), algorithm)
    finish(searcher, accuracy=coarse)
    files = SearchFolder(tmp_path, searcher)
    (tmp_path / "front").mkdir()
    (tmp_path / "front" / "7777.yaml").write_text("of an earlier end of the search")
    files.write_found()
    names = algorithm.pareto.split(",")
    expected = {candidate.number: candidate for candidate in by_definition(searcher.ledger, names)}
    rows = list(csv.DictReader((tmp_path / "front.csv").open()))
    assert {int(row["number"]) for row in rows} == set(expected)
    assert len(rows) == len(expected) > 2
    counts = [
        float(row[{"params": "params_m", "macs": "macs_g", "memory": "memory_mb"}[names[0]]]) for row in rows
    ]
    assert counts == sorted(counts)
    for row in rows:
        candidate = expected[int(row["number"])]
        assert float(row["accuracy"]) == coarse(candidate.architecture)
        share = coarse(candidate.architecture) / 100
        assert float(row["standard_error"]) == pytest.approx(100 * (share * (1 - share) / 400) ** 0.5)
        assert float(row["params_m"]) * 1e6 == pytest.approx(
            COSTS["params"].value(candidate.architecture, DIGITS.model)
        )
        assert DIGITS.architecture(tmp_path / row["file"]) == candidate.architecture
    assert {path.name for path in (tmp_path / "front").iterdir()} == {f"{number}.yaml" for number in expected}
    best = searcher.ledger.best()[0].architecture
    assert DIGITS.architecture(tmp_path / "best.yaml") == best


def test_a_front_of_candidates_whose_trials_report_anything(tmp_path):
    searcher = Evolution(DIGITS, Limits(), EvolutionConfig(population_size=3, generations=1, pareto="params"))
    for number, details in enumerate([{}, {"images": "?", "loss": True, "top5": "x"}, {"images": 0}]):
        searcher.ask()
        searcher.ledger.tell(number, [300.0, -4.0, 50.0][number], details)
    assert all((m.error, m.top5, m.loss) == (None, None, None) for m in front_of(searcher))


def test_a_front_by_loss_and_an_unknown_loss_is_above_all_known_ones():
    config = EvolutionConfig(population_size=6, generations=1, pareto="params", rank_by="loss")
    searcher = Evolution(DIGITS, Limits(), config)
    for loss in (0.5, None, 0.25, 0.75, None, 0.5):
        number = searcher.ask().number
        searcher.ledger.tell(number, 50.0 + number, {} if loss is None else {"loss": loss})
    errors = objectives(list(searcher.ledger), searcher)[:, -1]
    assert errors.tolist() == [0.5, 1.75, 0.25, 0.75, 1.75, 0.5]
    members = front_of(searcher)
    assert members[-1].loss == 0.25 and members[-1].accuracy == 52.0
    known = [member.loss for member in members if member.loss is not None]
    assert known == sorted(known, reverse=True)


def test_latency_is_traded_by_its_table(tmp_path):
    table = invented(DIGITS)
    costs = {**COSTS, "latency": table.cost}
    config = EvolutionConfig(population_size=12, generations=3, pareto="latency,params")
    searcher = Evolution(DIGITS, Limits(max_latency=table.range(DIGITS)[1] * 0.9), config, costs)
    finish(searcher)
    files = SearchFolder(tmp_path, searcher)
    files.save()
    files.write_found()
    rows = list(csv.DictReader((tmp_path / "front.csv").open()))
    times = [float(row["latency_ms"]) for row in rows]
    assert len(times) > 2 and times == sorted(times) and times[-1] <= table.range(DIGITS)[1] * 0.9
    for member in front_of(searcher):
        assert member.costs["latency"] == table.predicted(member.architecture)
    table.save(tmp_path / "latency.yaml")
    picked = pick(tmp_path, limits=Limits(max_latency=times[0]), latency_table=tmp_path / "latency.yaml")
    assert picked.number == int(rows[0]["number"]) and picked.costs["latency"] == times[0]


def test_a_search_for_one_subnet_leaves_no_front(tmp_path):
    searcher = Evolution(DIGITS, Limits(), EvolutionConfig(population_size=4, generations=1))
    finish(searcher)
    SearchFolder(tmp_path, searcher).write_found()
    assert {path.name for path in tmp_path.iterdir()} == {"best.yaml"}


@pytest.mark.parametrize(
    "names", ["flops", "params,params", "params, macs", "params,macs,memory,latency", ","]
)
@pytest.mark.parametrize("configuration", [EvolutionConfig, RandomConfig])
def test_what_cannot_be_traded_is_a_sentence(names, configuration):
    with pytest.raises(
        ConfigError, match=r"--pareto is .*; it should be one to three of params, macs, memory"
    ):
        configuration(pareto=names)


def test_a_latency_needs_a_table():
    with pytest.raises(ConfigError, match="--pareto latency needs"):
        Evolution(DIGITS, Limits(), EvolutionConfig(pareto="params,latency"))


def test_a_state_of_before_fronts_goes_on_and_one_of_another_trade_does_not():
    config = EvolutionConfig(population_size=4, generations=2)
    state = Evolution(DIGITS, Limits(), config).state_dict()
    del state["setting"]["evolution"]["pareto"]
    Evolution(DIGITS, Limits(), config).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"evolution.pareto was None and is params now"):
        Evolution(
            DIGITS,
            Limits(),
            EvolutionConfig(population_size=4, num_parents=1, generations=2, pareto="params"),
        ).load_state_dict(state)
