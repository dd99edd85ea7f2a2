"""The search space: read strictly, counted exactly, sampled in the published order."""

import json
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_autoformer import Architecture, ConfigError, SearchSpace
from nni_autoformer.space import packaged_spaces

SAMPLING = json.loads((Path(__file__).parent / "golden" / "sampling.json").read_text())
NAMES = ["base", "base-released", "cifar", "digits", "small", "tiny", "tiny-released"]
MINI = {
    "name": "mini",
    "choices": {"embed_dim": [8, 16], "depth": [1, 2], "num_heads": [1, 2], "mlp_ratio": [1, 2.5, 3]},
}


def test_the_packaged_spaces():
    assert packaged_spaces() == NAMES
    for name in NAMES:
        assert SearchSpace.load(name).name == name


@pytest.mark.parametrize(
    ("name", "size"),
    [("tiny", 280_804_921_344), ("small", 77_103_263_459_313), ("base", 6_245_364_340_204_353)],
)
def test_the_published_sizes(name, size):
    assert SearchSpace.load(name).size == size


@pytest.mark.parametrize(("letter", "name"), [("T", "tiny-released"), ("S", "small")])
def test_sampling_equals_the_published_draws(letter, name):
    space = SearchSpace.load(name)
    golden = SAMPLING[letter]
    for key in ("num_heads", "mlp_ratio", "embed_dim", "depth"):
        assert list(getattr(space, key)) == golden["choices"][key]
    for label, draws in golden["draws"].items():
        rng = random.Random(int(label.removeprefix("random.seed(").rstrip(")")))
        for draw in draws:
            expected = Architecture(draw["embed_dim"][0], draw["num_heads"], draw["mlp_ratio"])
            assert space.sample(rng) == expected
            assert expected.depth == draw["layer_num"]


def test_iteration_size_and_membership_agree():
    space = SearchSpace.from_dict(MINI)
    everything = list(space)
    assert len(everything) == len(set(everything)) == space.size == 2 * (6 + 36)
    assert all(architecture in space for architecture in everything)
    assert Architecture(8, (3,), (1.0,)) not in space
    assert Architecture(8, (1,) * 3, (1.0,) * 3) not in space
    assert "tiny" not in space


def test_neighbours_are_symmetric_new_and_inside():
    space = SearchSpace.from_dict(MINI)
    neighbours = {architecture: list(space.neighbours(architecture)) for architecture in space}
    for architecture, near in neighbours.items():
        assert len(near) == len(set(near))
        assert architecture not in near
        for other in near:
            assert other in space
            assert architecture in neighbours[other]
    one = Architecture(8, (1, 1), (1.0, 1.0))
    assert (
        len(neighbours[one]) == 1 + 2 * (1 + 2) + 1
    )  # embed_dim, each layer's heads and ratio, one layer fewer
    with pytest.raises(ConfigError, match=r"not in the space"):
        next(space.neighbours(Architecture(9, (1,), (1.0,))))


@settings(max_examples=30)
@given(st.sampled_from(NAMES), st.integers(0, 10**6))
def test_samples_are_members_and_come_back_from_nni(name, seed):
    space = SearchSpace.load(name)
    architecture = space.sample(random.Random(seed))
    assert architecture in space
    assert Architecture.from_sample(architecture.to_sample(space.max_depth)) == architecture


def test_named_architectures():
    tiny, digits = SearchSpace.load("tiny"), SearchSpace.load("digits")
    assert list(tiny.named()) == ["smallest", "published", "largest"]
    assert list(digits.named()) == ["smallest", "middle", "largest"]
    assert tiny.architecture("published").depth == 13
    assert tiny.architecture("middle") == Architecture(216, (4,) * 13, (3.5,) * 13)
    assert "published" not in SearchSpace.load("tiny-released").named()
    with pytest.raises(ConfigError, match=r"has no architecture 'biggest' .*smallest"):
        tiny.architecture("biggest")


def test_round_trip_through_a_file(tmp_path):
    space = SearchSpace.load("small").with_model(num_classes=7, img_size=(96, 64))
    space.to_yaml(tmp_path / "mine.yaml")
    again = SearchSpace.load(tmp_path / "mine.yaml")
    assert again == space
    assert again.architectures == space.architectures
    assert space.differences(again) == []
    assert space.differences(SearchSpace.load("small")) == [
        "model.img_size is [96, 64] here and [224, 224] there",
        "model.num_classes is 7 here and 1000 there",
    ]


def changed(**changes):
    content = json.loads(json.dumps(MINI))
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = content
        for key in outer:
            place = place.setdefault(key, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed(choices=None), "the key 'choices' is missing"),
        (changed(choices__depth=None), "the key 'choices.depth' is missing"),
        (changed(choices__heads=[1]), "unknown key 'choices.heads'"),
        (changed(chioces={}), "unknown key 'chioces'"),
        (changed(choices__depth=[]), r"choices.depth is \[\]; it should be a list"),
        (changed(choices__depth=3), "choices.depth is 3; it should be a list"),
        (changed(choices__embed_dim=[8, -8]), "choices.embed_dim holds -8"),
        (changed(choices__embed_dim=[8.5]), "choices.embed_dim holds 8.5"),
        (changed(choices__num_heads=[0, 1]), "choices.num_heads holds 0"),
        (changed(choices__num_heads=["two"]), "choices.num_heads holds 'two'"),
        (changed(choices__depth=[True]), "choices.depth holds True"),
        (changed(choices__mlp_ratio=[0]), "choices.mlp_ratio holds 0"),
        (changed(choices__mlp_ratio=[float("nan")]), "choices.mlp_ratio holds nan"),
        (changed(choices__mlp_ratio=[4, 4.0]), "choices.mlp_ratio holds 4 twice"),
        (changed(choices__mlp_ratio=[0.01]), "is below 1"),
        (changed(choices=[1]), "choices should hold keys with values"),
        (changed(model__patch=4), "model: unknown key 'patch'"),
        (changed(model__patch_size=0), "model: patch_size is 0"),
        (changed(model__patch_size=9), r"patch_size 9 does not divide img_size \[224, 224\]"),
        (changed(model__img_size=[224]), "img_size is"),
        (changed(model__img_size=[224, 22.5]), "img_size is"),
        (changed(model__num_classes=-1), "num_classes is -1"),
        (changed(model__global_pool="max"), "global_pool is 'max'; it should be one of avg, token"),
        (changed(model__relative_position=1), "relative_position is 1; it should be true or false"),
        (
            changed(architectures__best={"embed_dim": 9, "num_heads": [1], "mlp_ratio": [1]}),
            "the architecture 'best' is not in the space 'mini': embed_dim 9",
        ),
        (changed(architectures__best={"embed_dim": 8}), "architectures.best: the key 'num_heads' is missing"),
    ],
)
def test_bad_content_names_the_file_and_the_key(tmp_path, content, words):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=words) as error:
        SearchSpace.load(path)
    assert str(path) in str(error.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no packaged space of this name .*tiny-released.*no such file"):
        SearchSpace.load("huge")
    with pytest.raises(ConfigError, match=r"there is no such file"):
        SearchSpace.load("huge.yaml")


def test_an_architecture_file_of_another_space_is_refused(tmp_path):
    SearchSpace.load("tiny").smallest.to_yaml(tmp_path / "best.yaml")
    with pytest.raises(
        ConfigError, match=r"best.yaml: the architecture is not in the space 'digits': embed_dim 192"
    ):
        SearchSpace.load("digits").architecture(tmp_path / "best.yaml")
