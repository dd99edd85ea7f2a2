"""The READMEs: their commands are the command line's, and the Chinese one says what the English one says."""

import re
from pathlib import Path

import pytest

from nni_autoformer import SearchSpace
from nni_autoformer.cli import build_parser
from nni_autoformer.complexity import COSTS

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def blocks(text):
    """Code blocks without comments, as lists of lines."""
    found = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.S | re.M)
    return [[re.sub(r"\s+#.*|^#.*", "", line) for line in block.splitlines()] for block in found]


def test_both_have_the_same_code_links_and_tables():
    chinese_blocks = blocks(CHINESE)
    for block in blocks(ENGLISH):
        if not block[0].startswith("@inproceedings"):
            assert block in chinese_blocks
    links = [
        set(re.findall(r"\]\((\S+?)\)", text)) - {"README.md", "README.zh-CN.md"}
        for text in (ENGLISH, CHINESE)
    ]
    assert links[0] == links[1]
    rows = [re.findall(r"^\| (?:`[a-z]|[A0-9]).*$", text, flags=re.M) for text in (ENGLISH, CHINESE)]
    assert rows[0] and sorted(rows[0]) == sorted(rows[1])


COMMANDS = [
    re.split(r"nni[-_]autoformer ", line, maxsplit=1)[1].split()
    for block in blocks(ENGLISH)
    for line in block
    if re.search(r"nni[-_]autoformer [a-z]", line) and "import" not in line
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_understood(words):
    assert callable(build_parser().parse_args(words).run)


def test_the_table_of_spaces_is_right():
    for name, parameters in re.findall(r"^\| `(\w+)` .* \| ([\d.]+ – [\d.]+) \|$", ENGLISH, flags=re.M):
        low, high = (float(number) for number in parameters.split(" – "))
        smallest, largest = COSTS["params"].range(SearchSpace.load(name))
        assert smallest / 1e6 == pytest.approx(low, rel=0.05)
        assert largest / 1e6 == pytest.approx(high, rel=0.05)
