"""The published code's YAML files are read wherever a space or an architecture is."""

import pytest

from nni_autoformer import Architecture, ConfigError, SearchSpace

FILE = """
SUPERNET:
  MLP_RATIO: 4.0
  NUM_HEADS: 4
  EMBED_DIM: 256
  DEPTH: 14
SEARCH_SPACE:
  MLP_RATIO: [3.5, 4]
  NUM_HEADS: [3, 4]
  DEPTH: [12, 13, 14]
  EMBED_DIM: [192, 216, 240]
RETRAIN:
  MLP_RATIO: [3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5]
  NUM_HEADS: [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3]
  DEPTH: 13
  EMBED_DIM: 192
"""


def test_a_space_and_an_architecture(tmp_path):
    path = tmp_path / "AutoFormer-T.yaml"
    path.write_text(FILE)
    space = SearchSpace.load(path)
    assert space.differences(SearchSpace.load("tiny-released")) == []
    architecture = Architecture.from_yaml(path)
    tiny = SearchSpace.load("tiny")
    assert architecture == tiny.architectures["published"] == tiny.architecture(path)
    with pytest.raises(ConfigError, match=r"mlp_ratio 3\.0 is not among"):
        space.architecture(path)  # the released space does not hold the published subnet


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SUPERNET: {DEPTH: 14}\n", "the section SEARCH_SPACE is missing"),
        ("SEARCH_SPACE: {DEPTH: [1]}\nMORE: 1\n", "unknown section 'MORE'"),
        ("SEARCH_SPACE: {DEPTH: [1], HEADS: [1]}\n", "unknown key 'SEARCH_SPACE.HEADS'"),
        ("SEARCH_SPACE: {DEPTH: [1]}\n", "the key 'SEARCH_SPACE.EMBED_DIM' is missing"),
        (
            "SEARCH_SPACE: {DEPTH: [0], EMBED_DIM: [8], NUM_HEADS: [1], MLP_RATIO: [1]}\n",
            "choices.depth holds 0",
        ),
    ],
)
def test_bad_files_name_the_section_and_the_key(tmp_path, text, words):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        SearchSpace.load(path)
    assert str(path) in str(error.value)
