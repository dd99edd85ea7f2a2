"""How a subnet will run: what a latency table decides, and that flags agree with it."""

import pytest

from nni_autoformer import Architecture, ConfigError, EvolutionConfig, Limits, SearchSpace
from nni_autoformer.costs import COSTS
from nni_autoformer.deployment import Deployment, Target
from nni_autoformer.memory import memory
from nni_autoformer.search.algorithms import searcher_with
from nni_autoformer.search.class_args import ClassArgs

from .latency_tables import invented

DIGITS = SearchSpace.load("digits")


@pytest.fixture
def table(tmp_path):
    """A table for batches of 16 in bf16."""
    path = tmp_path / "latency.yaml"
    invented(DIGITS, batch_size=16, precision="bf16").save(path)
    return path


def test_without_a_table_costs_are_the_closed_forms():
    target = Target.of()
    assert list(target.costs(DIGITS)) == list(COSTS)
    assert set(target.record.values()) == {None}


def test_a_table_gives_latency_and_the_conditions_of_memory(table):
    target = Target.of(Deployment(deploy_batch_size=16, deploy_runtime="torch"), table)
    costs, middle = target.costs(DIGITS), DIGITS.middle
    assert list(costs) == ["params", "macs", "memory", "latency"]
    assert costs["memory"].value(middle, DIGITS.model) == memory(middle, DIGITS.model, 16, "bf16")
    assert costs["latency"].value(middle, DIGITS.model) == target.table.predicted(middle)
    assert target.record["latency table"] is not None


def test_a_search_keeps_to_a_limit_on_predicted_latency(table):
    costs = Target.of(path=table).costs(DIGITS)
    low, high = costs["latency"].range(DIGITS)
    limit = round((low + high) / 2, 2)
    config = EvolutionConfig(8, 3, 3, 2, 2)
    searcher = searcher_with(DIGITS, Limits(max_latency=limit), config, costs)
    while searcher.ledger.answered < 16:
        candidate = searcher.ask()
        assert isinstance(candidate.architecture, Architecture)
        assert costs["latency"].value(candidate.architecture, DIGITS.model) <= limit
        searcher.tell(candidate.number, candidate.number % 5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"deploy_batch_size": 1},
            "--deploy-batch-size is 1, and .*latency.yaml was measured with 16; leave --deploy-batch-size "
            "out, or measure a table with nni-autoformer latency --batch-size 1",
        ),
        ({"deploy_precision": "fp32"}, "--deploy-precision is fp32, and .* was measured with bf16"),
        (
            {"deploy_runtime": "onnxruntime"},
            "--deploy-runtime is onnxruntime, and .* measured with torch",
        ),
    ],
)
def test_a_flag_that_says_otherwise_than_the_table_is_an_error(table, given, words):
    with pytest.raises(ConfigError, match=words):
        Target.of(Deployment(**given), table)


def test_a_table_of_another_space_is_an_error(table):
    with pytest.raises(ConfigError, match=r"latency\.yaml: the table is of another space"):
        Target.of(path=table).costs(DIGITS.with_model(num_classes=7))


def test_a_runtime_without_a_table_is_an_error():
    with pytest.raises(ConfigError, match="--deploy-runtime needs --latency-table"):
        Target.of(Deployment(deploy_runtime="torch"))


def test_the_tuner_searches_by_a_table(table, tmp_path):
    given = {"space": "digits", "latency_table": "latency.yaml", "deploy_batch_size": 16}
    args = ClassArgs.of({**given, "max_latency": 3.0, "generations": 1})
    searcher = args.searcher(tmp_path)
    assert searcher.costs["latency"].value(searcher.ask().architecture, DIGITS.model) <= 3.0
    assert list(args.contents(tmp_path)) == ["latency table"]
    for changed, words in (
        ({"deploy_batch_size": 2}, "--deploy-batch-size is 2, and"),
        (
            {"deploy_batch_size": "many"},
            "classArgs: deploy_batch_size is 'many'; it should be a whole",
        ),
        ({"latency_table": "none.yaml"}, "none.yaml: there is no such file"),
        ({"latency_table": 3}, "classArgs: latency_table is 3; it should be text"),
        ({"latency_table": None}, "--max-latency needs a latency table"),
    ):
        with pytest.raises(ConfigError, match=words):
            ClassArgs.of({**given, "max_latency": 3.0, **changed}).searcher(tmp_path)
