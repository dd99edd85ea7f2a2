"""What a run's folder keeps of its NNI experiment."""

import json

import pytest

from nni_autoformer import ConfigError
from nni_autoformer.experiment.preflight import ID_FILE, known_experiment


@pytest.mark.parametrize(
    "content", [[], {}, {"id": 5}, {"id": None}, {"id": "../x"}, {"id": ""}, {"id": ["a"]}]
)
def test_a_damaged_name_is_a_sentence(tmp_path, content):
    (tmp_path / ID_FILE).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"nni_experiment\.json: id is .* the name of an NNI experiment"):
        known_experiment(tmp_path)


def test_the_name_is_read(tmp_path):
    assert known_experiment(tmp_path) is None
    (tmp_path / ID_FILE).write_text('{"id": "x4k2j9ab"}')
    assert known_experiment(tmp_path) == "x4k2j9ab"
