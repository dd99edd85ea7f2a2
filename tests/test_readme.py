"""The READMEs: their commands are the command line's, and the Chinese one says what the English one says."""

import re
from pathlib import Path

import pytest

from nni_autoformer import SearchSpace
from nni_autoformer.cli import build_parser
from nni_autoformer.costs import COSTS

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def blocks(text):
    """Code blocks without comments, as lists of lines."""
    found = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.S | re.M)
    return [[re.sub(r"\s+#.*|^#.*", "", line) for line in block.splitlines()] for block in found]


def sections(text):
    """The parts under the headings, the one before the first included."""
    return re.split(r"^## ", text, flags=re.M)


SECTIONS = list(zip(sections(ENGLISH), sections(CHINESE), strict=True))
NAMES = [english.partition("\n")[0] for english, _ in SECTIONS]


def prose(text):
    """A text without code blocks and the addresses of links."""
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def words_of_code(text):
    return set(re.findall(r"`([^`\n]+)`", prose(text)))


def numbers(text):
    return set(re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"`[^`\n]*`", "", prose(text))))


def rows(text):
    return re.findall(r"^\|.*\|$", text, flags=re.M)


@pytest.mark.parametrize(("english", "chinese"), SECTIONS, ids=NAMES)
def test_both_have_the_same_sections_in_the_same_order(english, chinese):
    """Commands, links, code words and numbers; translated is the prose."""
    own = [block for block in blocks(english) if not block[0].startswith("@inproceedings")]
    assert own == blocks(chinese)
    links = [
        set(re.findall(r"\]\((\S+?)\)", text)) - {"README.md", "README.zh-CN.md"}
        for text in (english, chinese)
    ]
    assert links[0] == links[1]
    assert words_of_code(english) == words_of_code(chinese)
    assert numbers(english) == numbers(chinese)


@pytest.mark.parametrize(("english", "chinese"), SECTIONS, ids=NAMES)
def test_both_have_the_same_tables_each_in_its_language(english, chinese):
    assert len(rows(english)) == len(rows(chinese))
    for mine, theirs in zip(rows(english), rows(chinese)):
        assert mine.count("|") == theirs.count("|")
        assert words_of_code(mine) == words_of_code(theirs) and numbers(mine) == numbers(theirs)
        for cell in re.sub(r"`[^`]*`|\[[^]]*\]", "", prose(theirs)).split("|"):
            assert not re.search(r"[a-z]{2,} [a-z]{2,}", cell), "this is English"


PUBLISHED = (ROOT / "docs" / "from_the_published_code.md").read_text(encoding="utf-8")
COMMANDS = [
    re.split(r"nni[-_]autoformer ", line, maxsplit=1)[1].split()
    for block in blocks(ENGLISH) + blocks(PUBLISHED)
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
