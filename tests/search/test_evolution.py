"""The search as ask and tell: the published operators, without the published faults."""

import json
import random
from collections import Counter
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer import Architecture, ConfigError, SearchSpace
from nni_autoformer.complexity import macs, params
from nni_autoformer.costs import COSTS
from nni_autoformer.search.evolution import Answer, Candidate, Evolution, EvolutionConfig, Limits

DIGITS = SearchSpace.load("digits")
SHORT = EvolutionConfig(
    population_size=12, num_parents=4, num_mutations=5, num_crossovers=5, generations=4, seed=3
)
TOY = SearchSpace.from_dict(
    {
        "name": "toy",
        "choices": {"embed_dim": [16], "depth": [1, 2], "num_heads": [1], "mlp_ratio": [1.0, 2.0]},
        "model": {"img_size": 8, "patch_size": 4},
    }
)


def score(architecture):
    """A number that looks random but is a function of the architecture."""
    return crc32(str(architecture).encode()) % 10_000 / 100


def finish(evolution, in_flight=1, shuffle=None):
    """Drive a search to its end with several candidates out at a time; the candidates in the order asked."""
    asked, out = [], []
    while True:
        answer = evolution.ask() if len(out) < in_flight else Answer.WAIT
        if isinstance(answer, Candidate):
            asked.append(answer)
            out.append(answer)
            continue
        if answer is Answer.DONE:
            assert not out
            return asked
        assert out, "waiting, but nothing is being evaluated"
        index = shuffle.randrange(len(out)) if shuffle else 0
        candidate = out.pop(index)
        evolution.tell(candidate.number, score(candidate.architecture))


def test_candidates_are_new_and_within_the_space_and_the_limits():
    limits = Limits(min_params=0.15, max_params=0.3, max_macs=0.0012)
    asked = finish(Evolution(DIGITS, limits, SHORT))
    assert len(asked) == 48
    assert len({candidate.architecture for candidate in asked}) == 48
    assert [candidate.number for candidate in asked] == list(range(48))
    for candidate in asked:
        assert candidate.architecture in DIGITS
        assert 0.15e6 <= params(candidate.architecture, DIGITS.model) <= 0.3e6
        assert macs(candidate.architecture, DIGITS.model) <= 0.0012e9


def test_each_generation_has_the_published_parts():
    asked = finish(Evolution(DIGITS, Limits(), SHORT))
    for generation in range(4):
        origins = Counter(c.origin for c in asked if c.generation == generation)
        assert sum(origins.values()) == 12
        if generation == 0:
            assert origins == {"random": 12}
        else:
            assert origins["mutation"] == 5
            assert origins["crossover"] <= 5
            assert origins["random"] >= 2


def test_the_published_defaults():
    config = EvolutionConfig()
    assert (config.population_size, config.num_parents, config.generations) == (50, 10, 20)
    assert (config.num_mutations, config.num_crossovers) == (25, 25)
    assert (config.gene_probability, config.size_probability) == (0.2, 0.4)
    assert Evolution(DIGITS).planned == 1000


@pytest.mark.parametrize(
    ("given", "parents", "mutations", "crossovers"),
    [
        ({"population_size": 10}, 2, 5, 5),
        ({"population_size": 1}, 1, 0, 0),
        ({"population_size": 100}, 20, 50, 50),
        ({"population_size": 10, "num_parents": 7}, 7, 5, 5),
        ({"population_size": 10, "num_mutations": 8}, 2, 8, 2),
        ({"num_crossovers": 40}, 10, 10, 40),
    ],
)
def test_what_is_not_given_scales_with_the_population(given, parents, mutations, crossovers):
    config = EvolutionConfig(**given)
    assert (config.num_parents, config.num_mutations, config.num_crossovers) == (
        parents,
        mutations,
        crossovers,
    )
    assert f"{mutations} mutations and {crossovers} crossovers of the best {parents}" in config.told


def test_limits_that_exclude_nothing_say_so():
    low, high = (count / 1e6 for count in COSTS["params"].range(DIGITS))
    for limits in (Limits(max_params=(low + high) / 2), Limits(min_params=low + 1e-6), Limits()):
        assert limits.idle(DIGITS) == []
    (sentence,) = Limits(max_params=150_000).idle(DIGITS)
    assert sentence.startswith("--max-params 150000 excludes no subnet: the subnets of 'digits' have 0.07")
    assert sentence.endswith("M parameters. The limit is in M (1,000,000).")
    sentences = Limits(min_params=low, max_macs=1e9, max_params=high).idle(DIGITS)
    assert [sentence.split()[0] for sentence in sentences] == ["--min-params", "--max-params", "--max-macs"]


def test_mutations_and_crossovers_come_from_the_best():
    """With fixed sizes, a child of equal-length parents has only genes that some parent has."""
    config = EvolutionConfig(
        population_size=10,
        num_parents=3,
        num_mutations=0,
        num_crossovers=5,
        generations=2,
        gene_probability=0.0,
        size_probability=0.0,
    )
    evolution = Evolution(DIGITS, Limits(), config)
    asked = finish(evolution)
    first = [c for c in asked if c.generation == 0]
    parents = sorted(first, key=lambda c: (-score(c.architecture), c.number))[:3]
    crossed = [c for c in asked if c.origin == "crossover"]
    assert crossed
    for candidate in crossed:
        same_depth = [p.architecture for p in parents if p.architecture.depth == candidate.architecture.depth]
        for i in range(candidate.architecture.depth):
            assert candidate.architecture.num_heads[i] in {p.num_heads[i] for p in same_depth}
            assert candidate.architecture.mlp_ratio[i] in {p.mlp_ratio[i] for p in same_depth}


def test_a_mutation_without_probability_is_no_new_subnet_and_a_random_one_takes_its_place():
    config = EvolutionConfig(
        population_size=4,
        num_parents=2,
        num_mutations=2,
        num_crossovers=0,
        generations=2,
        gene_probability=0.0,
        size_probability=0.0,
    )
    asked = finish(Evolution(DIGITS, Limits(), config))
    assert [c.origin for c in asked] == ["random"] * 8


def test_mutations_change_depth_and_keep_the_layers_they_share():
    config = EvolutionConfig(
        population_size=40,
        num_parents=1,
        num_mutations=40,
        num_crossovers=0,
        generations=2,
        gene_probability=0.0,
        size_probability=1.0,
    )
    asked = finish(Evolution(DIGITS, Limits(), config))
    best = max(asked[:40], key=lambda c: score(c.architecture)).architecture
    depths = set()
    for child in (c.architecture for c in asked if c.origin == "mutation"):
        shared = min(child.depth, best.depth)
        assert child.num_heads[:shared] == best.num_heads[:shared]
        assert child.mlp_ratio[:shared] == best.mlp_ratio[:shared]
        depths.add(child.depth)
    assert len(depths) > 1


@settings(max_examples=12, deadline=None)
@given(in_flight=st.integers(1, 20), seed=st.integers(0, 1000))
def test_the_same_search_at_any_concurrency_and_order_of_answers(in_flight, seed):
    one, many = Evolution(DIGITS, Limits(), SHORT), Evolution(DIGITS, Limits(), SHORT)
    assert finish(one) == finish(many, in_flight, random.Random(seed))
    assert one.ranking() == many.ranking()


@settings(max_examples=12, deadline=None)
@given(stop=st.integers(0, 60), in_flight=st.integers(1, 5))
def test_a_search_that_stops_anywhere_goes_on_through_json(stop, in_flight):
    whole = Evolution(DIGITS, Limits(), SHORT)
    expected = finish(whole)

    first, asked, out = Evolution(DIGITS, Limits(), SHORT), [], []
    for _ in range(stop):
        answer = first.ask() if len(out) < in_flight else Answer.WAIT
        if isinstance(answer, Candidate):
            asked.append(answer)
            out.append(answer)
        elif out:
            candidate = out.pop()
            first.tell(candidate.number, score(candidate.architecture))
    state = json.loads(json.dumps(first.state_dict()))

    second = Evolution(DIGITS, Limits(), SHORT)
    second.load_state_dict(state)
    assert second.told == first.told
    rest = finish(second, in_flight)
    assert rest[: len(out)] == sorted(out, key=lambda c: c.number)
    told = [c for c in asked if c not in out]
    assert sorted(told + rest, key=lambda c: c.number) == expected
    assert second.ranking() == whole.ranking()


def test_another_seed_is_another_search():
    from dataclasses import replace

    one = finish(Evolution(DIGITS, Limits(), SHORT))
    other = finish(Evolution(DIGITS, Limits(), replace(SHORT, seed=4)))
    assert [c.architecture for c in one] != [c.architecture for c in other]


def test_the_last_generation_is_ranked():
    evolution = Evolution(DIGITS, Limits(), SHORT)
    while isinstance(candidate := evolution.ask(), Candidate):
        evolution.tell(candidate.number, float(candidate.number))
    assert evolution.best()[0].generation == 3
    assert [c.number for c, _ in evolution.ranking()] == list(reversed(range(48)))


def test_equal_accuracies_rank_the_cheaper_first_and_then_in_the_order_of_proposal():
    evolution = Evolution(DIGITS, Limits(), SHORT)
    out = [evolution.ask() for _ in range(12)]
    for candidate in reversed(out):
        evolution.tell(candidate.number, 50.0)
    ranked = [(params(c.architecture, DIGITS.model), c.number) for c, _ in evolution.ranking()]
    assert ranked == sorted(ranked)


def test_it_waits_for_the_generation_and_is_done_at_the_end():
    evolution = Evolution(
        DIGITS, Limits(), EvolutionConfig(population_size=2, num_mutations=1, num_crossovers=1, generations=1)
    )
    first, second = evolution.ask(), evolution.ask()
    assert evolution.ask() is Answer.WAIT
    evolution.tell(second.number, 1.0)
    assert evolution.ask() is Answer.WAIT
    evolution.tell(first.number, 2.0)
    assert evolution.ask() is Answer.DONE
    assert evolution.ask() is Answer.DONE


def test_a_space_that_runs_dry_ends_the_search():
    asked = finish(Evolution(TOY))
    assert {c.architecture for c in asked} == set(TOY)
    assert len(asked) == TOY.size == 6


def test_a_dry_pool_of_a_large_space_ends_the_search():
    smallest = params(DIGITS.smallest, DIGITS.model) / 1e6
    asked = finish(Evolution(DIGITS, Limits(max_params=smallest + 0.0001), EvolutionConfig(generations=3)))
    fitting = [a for a in asked if params(a.architecture, DIGITS.model) <= (smallest + 0.0001) * 1e6]
    assert asked == fitting
    assert DIGITS.smallest in {c.architecture for c in asked}


def test_limits_are_inclusive_to_the_parameter():
    space, architecture = SearchSpace.load("tiny"), SearchSpace.load("tiny").architectures["published"]
    count = params(architecture, space.model)
    assert count == 5_867_944
    assert Limits(max_params=5.867944, min_params=5.867944).allows(architecture, space.model)
    assert not Limits(max_params=5.867943).allows(architecture, space.model)
    assert not Limits(min_params=5.867945).allows(architecture, space.model)
    operations = macs(architecture, space.model) / 1e9
    assert Limits(max_macs=operations, min_macs=operations).allows(architecture, space.model)
    assert not Limits(max_macs=operations - 1e-9).allows(architecture, space.model)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            {"max_params": 0.05},
            "--max-params 0.05: no subnet meets this limit; .* 0.073306 to 0.58185 M parameters",
        ),
        ({"min_params": 0.6}, "--min-params 0.6: no subnet"),
        ({"max_macs": 0.0003}, "--max-macs 0.0003: no subnet meets this limit; .* G MACs"),
        ({"min_macs": 1.0}, "--min-macs 1: no subnet"),
        ({"min_params": 0.3, "max_params": 0.2}, "--min-params 0.3 is above --max-params 0.2"),
    ],
)
def test_limits_outside_of_the_spaces_range_are_an_error(limits, words):
    with pytest.raises(ConfigError, match=words):
        Evolution(DIGITS, Limits(**limits))


def test_limits_inside_the_range_that_nothing_meets_are_an_error():
    counts = sorted({params(architecture, TOY.model) for architecture in TOY})
    between = (counts[0] + counts[1]) / 2e6
    with pytest.raises(ConfigError, match=r"no subnet within the limits was found in 'toy' in 10,000 draws"):
        Evolution(TOY, Limits(min_params=between - 1e-6, max_params=between + 1e-6))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"population_size": 0}, "--population-size is 0"),
        ({"num_parents": 0}, "--num-parents is 0"),
        ({"generations": -1}, "--generations is -1"),
        ({"gene_probability": 1.5}, "--gene-probability is 1.5"),
        ({"size_probability": -0.1}, "--size-probability is -0.1"),
        ({"population_size": 10, "num_mutations": 25}, "are more than --population-size 10"),
        ({"population_size": 10, "num_mutations": 6, "num_crossovers": 5}, "are more than --population-size"),
    ],
)
def test_a_bad_configuration_names_the_flag(values, words):
    with pytest.raises(ConfigError, match=words):
        EvolutionConfig(**values)


def test_wrong_answers_are_refused():
    evolution = Evolution(DIGITS, Limits(), SHORT)
    with pytest.raises(ValueError, match="No candidate has an accuracy"):
        evolution.best()
    candidate = evolution.ask()
    with pytest.raises(ValueError, match="No candidate has the number 1"):
        evolution.tell(1, 50.0)
    with pytest.raises(ValueError, match="is NaN"):
        evolution.tell(candidate.number, float("nan"))
    evolution.tell(candidate.number, 50.0)
    with pytest.raises(ValueError, match="has an answer already"):
        evolution.tell(candidate.number, 50.0)


def test_the_state_of_another_search_is_refused():
    state = Evolution(DIGITS, Limits(max_params=0.4), SHORT).state_dict()
    for other, words in (
        (Evolution(DIGITS, Limits(max_params=0.3), SHORT), "limits.max_params was 0.4 and is 0.3"),
        (Evolution(DIGITS, Limits(max_params=0.4)), "evolution.population_size was 12 and is 50"),
        (Evolution(TOY), "choices.embed_dim"),
    ):
        with pytest.raises(ConfigError, match=words):
            other.load_state_dict(state)


def test_evolution_beats_random_search():
    target = Architecture(80, (1, 3, 1, 3, 2), (4.0, 2.0, 4.0, 2.0, 3.0))

    def closeness(architecture):
        pairs = zip(architecture.num_heads + architecture.mlp_ratio, target.num_heads + target.mlp_ratio)
        same = sum(a == b for a, b in pairs) if architecture.depth == target.depth else 0
        return same + (architecture.embed_dim == target.embed_dim)

    evolution = Evolution(DIGITS, Limits(), EvolutionConfig(generations=8, seed=1))
    while isinstance(candidate := evolution.ask(), Candidate):
        evolution.tell(candidate.number, closeness(candidate.architecture))
    rng = random.Random(1)
    lucky = max(closeness(DIGITS.sample(rng)) for _ in range(400))
    assert evolution.best()[1] == 11
    assert lucky < 11
