"""Who comes from the published code is told what its scripts and flags are here."""

import argparse
import re
from pathlib import Path

import pytest

from nni_autoformer.cli import build_parser, main
from nni_autoformer.cli.old_flags import FLAGS, OTHER_MEANING, PAGE, SAME, SCRIPTS, SUPPORTED, advice

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / name for name in (Path(PAGE).name, "from_the_published_code.zh-CN.md")]
COMMANDS = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
KNOWN = {name: set(COMMANDS[name]._option_string_actions) for name in SUPPORTED}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "train --cfg supernet-T.yaml --gp",
            "--cfg is a flag of the published code; here it is --space",
        ),
        ("retrain --cfg AutoFormer-T.yaml", "here it is --architecture FILE, which reads the published YAML"),
        (
            "train --space tiny --gp --output x",
            "--gp is a flag of the published code; here it is a key of",
        ),
        ("train --space tiny --drop 0.1", "--drop is a flag of the published code; here it is not supported"),
        ("train --space tiny --mode=super", "here it is the command: train for super, retrain for retrain"),
        ("search --data-set EVO_IMNET", "here it is nothing for EVO_IMNET: the search selects by the images"),
        ("search --min-param-limits 5", "here it is --min-params, in millions as well"),
        (
            "search --scale --checkpoint x",
            "--scale is a flag of the published code; here it is not sup",
        ),
        ("finetune --input-size 384", "here it is --img-size"),
        (
            "search --resume supernet-tiny.pth --output x",
            "--resume takes no file, as it does in the published",
        ),
        ("supernet_train.py --gp", "here the command is train"),
        ("evolution", "evolution is a script of the published code; here the command is search"),
        ("lib/subImageNet.py", "here the command is data subset"),
    ],
)
def test_an_old_flag_names_the_new_one(command, words, capsys):
    assert main(command.split()) == 2
    printed = capsys.readouterr()
    assert words in printed.err and PAGE in printed.err
    assert printed.err.count("\n") == 1 and not printed.out


def test_every_flag_of_ours_that_is_named_is_one():
    for flag in FLAGS:
        for command in SUPPORTED:
            if flag in KNOWN[command]:
                continue
            here = advice(command, flag).partition("here it is")[2].replace("--nproc_per_node", "")
            for named in re.findall(r"(?<!\w)--[a-z][a-z-]*", here):
                assert any(named in known for known in KNOWN.values()), (flag, named)
    assert all(any(flag in known for known in KNOWN.values()) for flag in (*SAME, *OTHER_MEANING))
    assert not {*SAME, *OTHER_MEANING} & {*FLAGS}
    assert advice("train", "--epochs") is None and advice("info", "--gp") is None


@pytest.mark.parametrize("page", PAGES, ids=["English", "Chinese"])
def test_the_page_has_every_script_and_flag(page):
    text = page.read_text(encoding="utf-8")
    for name in (*FLAGS, *SAME, *OTHER_MEANING):
        assert f"`{name}" in text, name
    for script in SCRIPTS:
        assert f"{script}.py" in text
    for named in re.findall(r"`(--[a-z][\w-]*)", text):
        ours = any(named in known for known in KNOWN.values())
        assert ours or named in FLAGS or named.startswith("--nproc"), named


def test_both_pages_have_the_same_code_and_rows():
    english, chinese = (page.read_text(encoding="utf-8") for page in PAGES)
    for pattern in (r"^```\n(.*?)^```", r"`[^`\n]+`", r"(?m)^#+ "):
        flags = re.S | re.M if pattern.startswith("^```") else 0
        assert sorted(re.findall(pattern, english, flags)) == sorted(re.findall(pattern, chinese, flags))
    assert english.count("\n| ") == chinese.count("\n| ")
