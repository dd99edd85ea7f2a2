"""The state of a search: damage and wrong values are one sentence, and so is what has changed meanwhile."""

import copy
import json
import random

import pytest

from nni_autoformer import Evolution, EvolutionConfig, SearchSpace
from nni_autoformer.complexity import params
from nni_autoformer.errors import ConfigError
from nni_autoformer.search.driver import SearchDriver
from nni_autoformer.search.ledger import Candidate
from nni_autoformer.search.state_file import read_state, write_state

SPACE = SearchSpace.load("digits")
CONFIG = EvolutionConfig(4, 2, 2, 1, 3, seed=4)


def drive(folder, answers, contents=None, resume=False):
    driver = SearchDriver(Evolution(SPACE, config=CONFIG), folder, contents=contents)
    if resume:
        assert driver.resume()
    while answers and isinstance(candidate := driver.next(), Candidate):
        accuracy = params(candidate.architecture, SPACE.model) % 9973 / 100
        driver.answer(candidate, {"default": accuracy, "images": 12})
        answers -= 1
    return driver


@pytest.fixture
def state(tmp_path):
    driver = drive(tmp_path, 6)
    driver.ended(driver.next(), success=False)
    driver.answer(driver.next(), {"default": float("nan")})
    return tmp_path / "search.json"


def test_a_state_comes_back(tmp_path, state):
    content = read_state(state)
    assert list(content) == ["evolution", "details", "contents"]
    assert len(content["evolution"]["candidates"]) == 7
    write_state(tmp_path / "again.json", content)
    assert read_state(tmp_path / "again.json") == content
    assert (tmp_path / "again.json").read_text() == state.read_text()


def test_states_of_earlier_versions_go_on(tmp_path, state):
    """They have no checksum, no contents and no loss, and could stop candidates early."""
    whole = drive(tmp_path / "whole", 12).searcher.ranking()
    drive(tmp_path / "old", 6)
    file = tmp_path / "old" / "search.json"
    content = json.loads(file.read_text())
    del content["checksum"], content["contents"]
    del content["evolution"]["setting"]["evolution"]["rank_by"]
    for entry in content["evolution"]["candidates"]:
        entry["stopped"] = False
        del entry["loss"]
    file.write_text(json.dumps(content))
    assert drive(tmp_path / "old", 12, resume=True).searcher.ranking() == whole


def test_a_search_that_stopped_candidates_early_cannot_go_on(state):
    content = json.loads(state.read_text())
    del content["checksum"]
    content["evolution"]["candidates"][3].update(accuracy=None, stopped=True)
    state.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="candidate 3 was stopped early by --racing, which") as error:
        drive(state.parent, 1, resume=True)
    assert str(error.value).startswith(f"{state}: ")


def test_a_changed_bit_is_noticed(tmp_path, state):
    whole, before = state.read_bytes(), read_state(state)
    rng = random.Random(0)
    for position in [*rng.sample(range(len(whole)), 200), *range(len(whole) - 90, len(whole))]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.randrange(8)
        state.write_bytes(damaged)
        try:
            found = read_state(state)
        except ConfigError as error:
            assert str(error).startswith(f"{state}: ") and "\n" not in str(error)
        else:  # the name of the checksum, or a space
            assert {key: found[key] for key in before} == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 5000 + "]" * 5000,
        '{"evolution": NaN}',
        '{"evolution": 1e999}',
        "\x00",
        "null",
        "5",
    ],
)
def test_what_is_no_state_at_all(state, text):
    state.write_text(text)
    with pytest.raises(ConfigError) as error:
        SearchDriver(Evolution(SPACE, config=CONFIG), state.parent).resume()
    assert str(state) in str(error.value) and len(str(error.value)) < 600


def keys_of(value, path=()):
    """All places of a JSON value, by their keys."""
    yield path
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, entry in entries:
        yield from keys_of(entry, (*path, key))


WRONG = [None, True, -1, 1.5, "x" * 300, [], {}, [[]], 10**400, {"a": 1}, float("inf")]


def test_a_wrong_value_anywhere_is_a_sentence_that_names_file_and_key(state):
    content = json.loads(state.read_text())
    del content["checksum"]
    places = [path for path in keys_of(content) if path]
    rng, refused = random.Random(0), 0
    for path in places:
        # the setting is compared, and candidates are alike: some of them are enough
        for value in rng.sample(WRONG, 3 if "candidates" in path and len(path) > 3 else len(WRONG)):
            changed = copy.deepcopy(content)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if inner[path[-1]] == value:
                continue
            inner[path[-1]] = value
            state.write_text(json.dumps(changed))
            driver = SearchDriver(Evolution(SPACE, config=CONFIG), state.parent)
            try:
                driver.resume()
            except ConfigError as error:
                refused += 1
                assert str(error).startswith(f"{state}: "), error
                assert len(str(error)) < 1000 and "\n" not in str(error)
            else:
                json.loads(json.dumps(driver.searcher.state_dict()), parse_constant=pytest.fail)
    assert refused > 500


@pytest.mark.parametrize(
    "path", [("evolution",), ("details",), ("evolution", "setting"), ("evolution", "closed")]
)
def test_a_missing_key_is_named(state, path):
    content = json.loads(state.read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]], content["checksum"]
    state.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"the key '{'.'.join(path)}' is missing"):
        read_state(state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c[1].update(architecture=c[0]["architecture"]),
            r"candidates\[1\].architecture stands there",
        ),
        (lambda c: c[5].update(generation=0, accuracy=float("nan")), "NaN is no number of JSON"),
        (lambda c: c[5].update(generation=7), r"candidates\[5\].generation is 7; it should be from"),
        (lambda c: c[0].update(failed=True), r"candidates\[0\] should have an accuracy or 'failed'"),
        (
            lambda c: c[0]["architecture"].update(num_heads=3, depth=10**12),
            "num_heads is 3; it should be a list",
        ),
        (lambda c: c[0]["architecture"].update(embed_dim=50), "candidate 0 is not in the space 'digits'"),
    ],
)
def test_candidates_that_cannot_be(state, change, words):
    content = json.loads(state.read_text())
    del content["checksum"]
    change(content["evolution"]["candidates"])
    state.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=words):
        SearchDriver(Evolution(SPACE, config=CONFIG), state.parent).resume()


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 100, None])
def test_a_damaged_list_of_candidates_changes_nothing(tmp_path, damage):
    drive(tmp_path / "whole", 12)
    drive(tmp_path / "s", 6)
    listed = tmp_path / "s" / "candidates.jsonl"
    if damage is None:
        listed.unlink()
    else:
        listed.write_bytes(damage)
    drive(tmp_path / "s", 12, resume=True)
    assert listed.read_text() == (tmp_path / "whole" / "candidates.jsonl").read_text()


def test_a_search_goes_on_only_with_what_it_began_with(tmp_path):
    before = {"checkpoint": "1", "images": "2"}
    drive(tmp_path, 3, before)
    drive(tmp_path, 1, before, resume=True)
    for now, words in (
        ({"checkpoint": "3", "images": "2"}, "what it began with: the supernet's file. New"),
        ({"checkpoint": "3", "images": "4"}, "began with: the supernet's file, the selection images. New"),
        ({"images": "4"}, "began with: the selection images. New"),
    ):
        with pytest.raises(ConfigError, match=words):
            drive(tmp_path, 1, now, resume=True)
    drive(tmp_path, 1, {}, resume=True)  # who knows nothing of them changes no record
    with pytest.raises(ConfigError, match="the supernet's file"):
        drive(tmp_path, 1, {"checkpoint": "3"}, resume=True)
    drive(tmp_path, 1, {"supernet": "5"}, resume=True)
    assert read_state(tmp_path / "search.json")["contents"] == {**before, "supernet": "5"}
