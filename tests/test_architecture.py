"""One subnet: canonical, and the same after every conversion."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_autoformer import Architecture, ConfigError

LAYERS = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([1.0, 1.33, 2.0, 3.5, 4.0])), min_size=1, max_size=6
)
ARCHITECTURES = st.builds(
    lambda embed, layers: Architecture(embed, [h for h, _ in layers], [r for _, r in layers]),
    st.integers(1, 700),
    LAYERS,
)


@given(ARCHITECTURES)
def test_round_trips(architecture):
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture
    assert Architecture.from_sample(architecture.to_sample()) == architecture
    assert hash(Architecture.from_sample(architecture.to_sample(9))) == hash(architecture)


@given(ARCHITECTURES, st.integers(0, 4))
def test_layers_beyond_the_depth_do_not_count(architecture, more):
    sample = architecture.to_sample(architecture.depth + more)
    assert len(sample) == 2 + 2 * (architecture.depth + more)
    for i in range(architecture.depth, architecture.depth + more):
        assert sample[f"num_head_{i}"] in architecture.num_heads
        sample[f"num_head_{i}"], sample[f"mlp_ratio_{i}"] = 99, 9.9
    assert Architecture.from_sample(sample) == architecture


@given(ARCHITECTURES)
def test_numbers_survive_javascript(architecture):
    """JSON of JavaScript writes 4.0 as 4; NNI's keys are a subclass of str."""

    class Label(str):
        pass

    sample = {Label(k): int(v) if float(v).is_integer() else v for k, v in architecture.to_sample(8).items()}
    back = Architecture.from_sample(json.loads(json.dumps(sample)))
    assert back == architecture
    assert back.to_dict() == architecture.to_dict()
    assert all(type(ratio) is float for ratio in back.mlp_ratio)


@given(ARCHITECTURES)
def test_yaml(tmp_path_factory, architecture):
    path = tmp_path_factory.mktemp("yaml") / "best.yaml"
    architecture.to_yaml(path, "two lines\nof comment")
    assert path.read_text().startswith("# two lines\n# of comment\nembed_dim:")
    assert Architecture.from_yaml(path) == architecture


def test_the_hidden_width_is_truncated_not_rounded():
    assert Architecture(120, (1,), (1.33,)).hidden_features == (159,)


def test_one_number_stands_for_every_layer():
    architecture = Architecture.from_dict(
        {"embed_dim": 64, "depth": 3, "num_heads": 2, "mlp_ratio": [1, 2, 3]}
    )
    assert architecture == Architecture(64, (2, 2, 2), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"num_heads": [1], "mlp_ratio": [1]}, "the key 'embed_dim' is missing"),
        ({"embed_dim": 8, "num_heads": [1], "mlp_ratio": [1], "heads": 1}, "unknown key 'heads'"),
        ({"embed_dim": 8, "num_heads": [1, 2], "mlp_ratio": [1]}, "2 entries and mlp_ratio 1"),
        (
            {"embed_dim": 8, "depth": 3, "num_heads": [1], "mlp_ratio": [1]},
            "num_heads has 1 entries, but depth is 3",
        ),
        ({"embed_dim": 8, "depth": 0, "num_heads": [], "mlp_ratio": []}, "depth is 0"),
        ({"embed_dim": 8, "num_heads": [], "mlp_ratio": []}, "at least one layer"),
        ({"embed_dim": 8.5, "num_heads": [1], "mlp_ratio": [1]}, "embed_dim holds 8.5"),
        ({"embed_dim": True, "num_heads": [1], "mlp_ratio": [1]}, "embed_dim holds True"),
        ({"embed_dim": 8, "num_heads": [0], "mlp_ratio": [1]}, "num_heads holds 0"),
        ({"embed_dim": 8, "num_heads": ["2"], "mlp_ratio": [1]}, "num_heads holds '2'"),
        ({"embed_dim": 8, "num_heads": [1], "mlp_ratio": [-1]}, "mlp_ratio holds -1"),
        ({"embed_dim": 8, "num_heads": 1, "mlp_ratio": 1}, "depth is needed"),
        ([1, 2], "needs the keys"),
    ],
)
def test_bad_content_names_the_source_and_the_key(content, words):
    with pytest.raises(ConfigError, match=words) as error:
        Architecture.from_dict(content, "best.yaml")
    assert "best.yaml" in str(error.value)


def test_a_sample_without_a_needed_label_is_refused():
    with pytest.raises(ConfigError, match="no label 'mlp_ratio_1'"):
        Architecture.from_sample(
            {"embed_dim": 8, "depth": 2, "num_head_0": 1, "num_head_1": 1, "mlp_ratio_0": 2}
        )
