"""Interleaved measuring of real networks, and that it goes on where it stopped."""

from itertools import pairwise

import pytest
import torch

from nni_autoformer import SearchSpace, latency
from nni_autoformer.errors import ConfigError
from nni_autoformer.latency import measure_by_table, measure_subnets
from nni_autoformer.latency.pieces import Piece, Weights, input_shape, module_of, parts_of
from nni_autoformer.latency.rounds import measure, turns
from nni_autoformer.latency_table import Conditions, Measured
from nni_autoformer.nn.relative_position import build_token_grid
from tests.latency_tables import invented

DIGITS = SearchSpace.load("digits")
MODEL = DIGITS.model
FEW = SearchSpace("few", (48,), (1, 2), (1,), (2.0,), MODEL)


def test_each_piece_has_one_turn_in_each_round_in_an_order_of_its_own():
    order = list(turns(20, 3, seed=4))
    rounds = [[piece for number, piece in order if number == wanted] for wanted in range(3)]
    assert all(sorted(pieces) == list(range(20)) for pieces in rounds)
    assert rounds[0] != rounds[1] != rounds[2]
    assert order == list(turns(20, 3, seed=4)) != list(turns(20, 3, seed=5))


def test_what_was_measured_before_a_stop_stays_and_the_rest_follows_in_the_same_order():
    pieces, before = parts_of(FEW), {}

    def stop_after_four(turn, times):
        before[turn] = times
        if len(before) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(pieces, MODEL, Conditions(), rounds=3, record=stop_after_four)
    after = {}
    found = measure(pieces, MODEL, Conditions(), rounds=3, known=before, record=after.__setitem__)
    assert [*before, *after] == list(turns(len(pieces), 3, 0))
    assert all(0 < time.low <= time.median <= time.high for time in found.values())


def test_what_is_known_is_not_measured_again():
    known = {turn: [7.0, 9.0, 9.0] for turn in turns(3, 2, 0)}
    found = measure(parts_of(FEW), MODEL, Conditions(), rounds=2, known=known, record=pytest.fail)
    assert [time.median for time in found.values()] == [9.0] * 3


def test_a_stop_leaves_torchs_threads_as_they_were():
    before = torch.get_num_threads()
    seen = []

    def look(turn, times):
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(parts_of(FEW), MODEL, Conditions(threads=before + 1), rounds=1, record=look)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_networks_share_memory_but_no_network_uses_a_place_twice():
    grid = build_token_grid(MODEL.grid_size, MODEL.max_relative_position, MODEL.relative_position)
    weights = Weights(torch.device("cpu"), torch.float32)
    large = weights.fill(module_of(Piece("subnet", DIGITS.largest), MODEL, grid))
    small = weights.fill(module_of(Piece("subnet", DIGITS.smallest), MODEL, grid))
    for module in (large, small):
        spans = sorted((t.data_ptr(), t.data_ptr() + 4 * t.numel()) for t in module.parameters())
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert next(large.parameters()).data_ptr() == next(small.parameters()).data_ptr()
    logits = small(torch.randn(2, *input_shape(Piece("subnet", DIGITS.smallest), MODEL)))
    assert logits.shape == (2, MODEL.num_classes)
    assert torch.isfinite(logits).all()


def test_stem_and_head_are_a_subnets():
    grid = build_token_grid(MODEL.grid_size, MODEL.max_relative_position, MODEL.relative_position)
    subnet = module_of(Piece("subnet", DIGITS.middle), MODEL, grid)
    shapes = {tuple(parameter.shape) for parameter in subnet.parameters()}
    for kind in ("stem", "head"):
        module = module_of(Piece(kind, DIGITS.middle), MODEL, None)
        assert {tuple(parameter.shape) for parameter in module.parameters()} <= shapes


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_whole_subnets_are_measured_in_the_order_of_asking(precision):
    subnets = [DIGITS.largest, DIGITS.smallest, DIGITS.largest]
    found = measure_subnets(subnets, MODEL, Conditions(batch_size=2, precision=precision), rounds=2)
    assert found[0] is found[2]
    assert found[0].median != found[1].median


def test_what_does_not_run_is_a_sentence():
    vast = DIGITS.with_model(img_size=(1 << 20, 1 << 20), patch_size=1 << 19).model
    with pytest.raises(ConfigError, match=r"torch on cpu, batch size 4096.*does not run here"):
        measure_subnets([DIGITS.smallest], vast, Conditions(batch_size=4096), rounds=1)


@pytest.mark.parametrize(("factor", "told"), [(1.0, False), (1.05, False), (0.5, True), (2.0, True)])
def test_a_machine_of_another_pace_than_the_tables_is_told(monkeypatch, caplog, factor, told):
    table = invented(DIGITS)

    def clock(architectures, *_, **__):
        times = [
            table.subnets.get(architecture, Measured(15.0, 14.0, 16.0)) for architecture in architectures
        ]
        return [Measured(*(factor * value for value in (t.median, t.low, t.high))) for t in times]

    monkeypatch.setattr(latency, "measure_subnets", clock)
    middle = DIGITS.architecture("middle")
    (found,) = measure_by_table(table, [middle])
    assert found.median == 15.0 * factor
    assert (f"{factor:.2f} times as long now" in caplog.text) is told
