"""Which images a job takes that is told of none: those that its checkpoint's run has recorded."""

import json

import pytest

from nni_autoformer import ConfigError, DataSet
from nni_autoformer.jobs.remembered import data_for


@pytest.fixture
def recorded(tmp_path):
    """Writes the record of a run; gives the place of its checkpoint, which data_for does not open."""

    def write(job="train", **config):
        (tmp_path / "run.json").write_text(json.dumps({"job": job, "status": "finished", "config": config}))
        return tmp_path / "supernet.safetensors"

    return write


def test_the_record_names_the_data(recorded, tmp_path):
    checkpoint = recorded(dataset="cifar10", data="/data/c10", selection=None)
    assert data_for(checkpoint, None) == DataSet("cifar10", "/data/c10")
    assert data_for(tmp_path / "epochs" / "0003.safetensors", None) == DataSet("cifar10", "/data/c10")
    assert data_for(checkpoint, DataSet(workers=3)) == DataSet("cifar10", "/data/c10", workers=3)
    assert data_for(checkpoint, DataSet("cifar10")) == DataSet("cifar10", "/data/c10")
    for job in ("retrain", "finetune"):
        assert data_for(recorded(job, dataset="folder", data="/d"), None) == DataSet(data="/d")
    assert data_for(recorded("demo", recipe={}), None) == DataSet("digits")


def test_what_is_given_counts(recorded):
    checkpoint = recorded(dataset="folder", data="/d")
    for given in (DataSet(data="/e"), DataSet("digits"), DataSet("pets", "/p"), DataSet("hfds/me/mine")):
        assert data_for(checkpoint, given) == given
    assert data_for(checkpoint, "/e") == DataSet(data="/e")
    assert data_for(checkpoint, DataSet("pets")) == DataSet("pets")  # whose opening misses the folder


def test_nothing_else_is_taken_for_a_record(recorded, tmp_path):
    with pytest.raises(ConfigError, match=r"--data is missing: no run.json beside .*; give the folder"):
        data_for(tmp_path / "supernet.safetensors", None)
    for job in ("search", "sample"):
        with pytest.raises(ConfigError, match="--data is missing"):
            data_for(recorded(job, dataset="folder", data="/d"), None)
    for config, words in (
        ({"data": "/d"}, "config.dataset is None; it should be text"),
        ({"dataset": "folder", "data": ["/d"]}, "config.data is "),
    ):
        with pytest.raises(ConfigError, match=rf"run.json: {words}"):
            data_for(recorded(**config), None)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ConfigError, match="should hold keys with values"):
        data_for(tmp_path / "supernet.safetensors", None)
