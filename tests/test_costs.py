"""The table of costs, and that limits on all of them hold; the formulas have tests of their own."""

import math
import random
from dataclasses import replace

import pytest

from nni_autoformer import ConfigError, EvolutionConfig, Limits, SearchSpace
from nni_autoformer.cli import build_parser, flags, main
from nni_autoformer.costs import COST_NAMES, COSTS, KNOWN, LATENCY, costs_of, measured_costs
from nni_autoformer.deployment import Deployment, Target
from nni_autoformer.search.algorithms import algorithm_of, searcher_with
from nni_autoformer.search.class_args import ClassArgs
from nni_autoformer.search.limits import LIMITS

DIGITS = SearchSpace.load("digits")

LAYERS = replace(
    LATENCY,
    value=lambda architecture, model: 0.5 * architecture.depth,
    bounds=lambda space: (0.5 * space.depth[0], 0.5 * space.depth[-1]),
)
"""Half a millisecond a layer."""


def test_every_cost_has_limits_and_flags():
    assert COST_NAMES == ("params", "macs", "memory", "latency") == tuple(KNOWN)
    assert list(COSTS) == ["params", "macs", "memory"]
    parser = build_parser()
    for command in ("search", "sample"):
        given = [word for i, name in enumerate(LIMITS) for word in (f"--{name.replace('_', '-')}", str(i))]
        words = [command, "--checkpoint", "x", "--output", "y", *given]
        limits = flags.limits_of(parser.parse_args(words))
        assert limits.to_dict() == {name: float(i) for i, name in enumerate(LIMITS)}
        assert limits["memory"] == (4, 5)


@pytest.mark.parametrize("name", COSTS)
def test_the_range_holds_for_every_subnet_of_a_space(name):
    cost = COSTS[name]
    rng = random.Random(0)
    counts = [cost.value(DIGITS.sample(rng), DIGITS.model) for _ in range(200)]
    low, high = cost.range(DIGITS)
    assert low <= min(counts) < max(counts) <= high


@pytest.mark.parametrize("algorithm", ["evolution", "random"])
def test_a_search_keeps_to_limits_on_any_cost(algorithm):
    costs = {**Target(Deployment(deploy_batch_size=8)).costs(DIGITS), "latency": LAYERS}
    config = algorithm_of(algorithm).configuration(generations=2, population_size=8)
    limits = Limits(max_latency=2.0, min_latency=2.0, max_memory=1.5)
    searcher = searcher_with(DIGITS, limits, config, costs)
    assert searcher.costs is costs
    asked = []
    while searcher.ledger.answered < 16:
        candidate = searcher.ask()
        searcher.tell(candidate.number, candidate.number % 7)
        asked.append(candidate.architecture)
    assert {entry.depth for entry in asked} == {4}
    memories = [costs["memory"].value(entry, DIGITS.model) for entry in asked]
    assert max(memories) <= 1.5e6 < costs["memory"].range(DIGITS)[1]


def test_a_limit_outside_of_a_tables_range_names_the_range():
    costs = {**COSTS, "latency": LAYERS}
    words = "--max-latency 1: no subnet meets this limit; the subnets of 'digits' have 1.5 to 2.5 ms latency"
    with pytest.raises(ConfigError, match=words):
        searcher_with(DIGITS, Limits(max_latency=1), EvolutionConfig(), costs)
    (sentence,) = Limits(max_latency=3).idle(DIGITS, costs)
    assert sentence == (
        "--max-latency 3 excludes no subnet: the subnets of 'digits' have 1.5 to 2.5 ms latency. The limit "
        "is in ms."
    )


def test_a_latency_limit_needs_a_table():
    with pytest.raises(ConfigError) as caught:
        searcher_with(DIGITS, Limits(max_latency=12.5), EvolutionConfig())
    assert str(caught.value) == (
        "--max-latency needs a latency table of the device: nni-autoformer latency --space … --output "
        "latency.yaml makes one, then give --latency-table latency.yaml."
    )
    with pytest.raises(ConfigError, match="--min-latency needs a latency table"):
        Limits(min_latency=1).require_feasible(DIGITS)


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf])
@pytest.mark.parametrize("name", ["max_params", "min_macs", "max_memory", "max_latency"])
def test_a_limit_is_a_finite_number_from_0_on(name, value):
    with pytest.raises(
        ConfigError, match=f"--{name.replace('_', '-')} is {value}; it should be a finite num"
    ):
        Limits(**{name: value})
    with pytest.raises(
        ConfigError, match=f"classArgs: {name} is {value}; it should be a finite number, 0 or"
    ):
        ClassArgs.of({name: value})


def test_on_the_command_line_too(tmp_path, capsys):
    words = f"search --checkpoint {tmp_path}/x --data {tmp_path} --output {tmp_path}/out".split()
    for given, sentence in (
        (["--max-params=-1"], "--max-params is -1.0; it should be a finite number, 0 or more"),
        (["--max-memory", "nan"], "--max-memory is nan; it should be a finite number, 0 or more"),
        (["--max-speed", "1"], "there is no flag --max-speed"),
        (["--deploy-batch-size", "0"], "--deploy-batch-size is 0; it should be at least 1"),
        (["--deploy-precision", "int8"], "int8"),
    ):
        try:
            code = main([*words, *given])
        except SystemExit as end:
            code = end.code
        assert code == 2
        assert sentence in capsys.readouterr().err


def test_an_unknown_cost_is_no_limit():
    with pytest.raises(ConfigError, match=r"'max_speed' is no limit; known are min_params, .*max_latency"):
        Limits(max_speed=1)


def test_costs_are_told_by_name_and_unit():
    costs = {**COSTS, "latency": LAYERS}
    counts = costs_of(DIGITS.middle, DIGITS.model, costs)
    assert list(counts) == list(COST_NAMES) and counts["latency"] == 2.0
    metric = measured_costs(DIGITS.middle, DIGITS.model, costs)
    assert list(metric) == ["params (M)", "macs (G)", "memory (MB)", "latency (ms)"]
    assert metric["memory (MB)"] == counts["memory"] / 1e6
