"""The shares of the processes of one command."""

from hypothesis import given
from hypothesis import strategies as st

from nni_autoformer.ranks import Ranks


@given(items=st.lists(st.integers()), size=st.integers(1, 9))
def test_shares_cover_everything_once_and_evenly(items, size):
    shares = [Ranks(rank, size).share(items) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_single_process_needs_no_others(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    with Ranks.joined() as ranks:
        assert ranks == Ranks()
        assert ranks.first(lambda: 3) == ranks.first_then_all(lambda: 3) == 3
        ranks.wait()
        assert ranks.device("auto") == "auto"


def test_a_restart_by_torchrun_is_seen(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    with Ranks.joined() as ranks:
        assert ranks.restarted
