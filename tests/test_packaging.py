"""The package: what it imports is declared, and its distributions have everything that the repository has."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "nni_autoformer").rglob("*.py"))
OTHER_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Packages that are installed under another name than they are imported by."""


@pytest.fixture
def declared(monkeypatch):
    """What setup.py gives to setuptools."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def names(requirements):
    return {Requirement(line).name.lower().replace("_", "-") for line in requirements}


def imports(nodes):
    """The packages of others that import statements name, as they are installed."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, "nni_autoformer"}
    return {OTHER_NAMES.get(name, name).lower().replace("_", "-") for name in found}


def test_every_import_is_declared(declared):
    trees = [ast.parse(module.read_text(encoding="utf-8")) for module in MODULES]
    always = names(declared["install_requires"])
    extras = names(line for lines in declared["extras_require"].values() for line in lines)
    at_the_top = set().union(*(imports(tree.body) for tree in trees))
    anywhere = set().union(*(imports(ast.walk(tree)) for tree in trees))
    assert {"torch", "nni", "numpy", "pillow", "requests", "psutil", "scipy"} <= anywhere
    assert at_the_top <= always
    assert anywhere <= always | extras


def build(kind, source, folder):
    """A distribution, by the installed setuptools instead of one from the network."""
    call = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", call, str(folder)], cwd=source, check=True, capture_output=True, text=True
    )
    return folder / done.stdout.split()[-1]


def test_an_index_page_has_no_relative_links(monkeypatch):
    """Pictures and links of the README lead to the repository, or are left out where nobody knows it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](docs/figures/peers.png)" in readme and "](README.zh-CN.md)" in readme
    for told in ("https://github.com/me/mine", "git@github.com:me/mine.git", "/somewhere/else"):
        monkeypatch.setenv("NNI_AUTOFORMER_REPOSITORY", told)
        given = {}
        monkeypatch.setattr(setuptools, "setup", given.update)
        runpy.run_path(str(ROOT / "setup.py"))
        page, urls = given["long_description"], given["project_urls"]
        links = re.findall(r"\]\(([^)\s]+)\)", page)
        assert links and all(link.startswith(("https://", "#")) for link in links)
        if "mine" in told:
            assert "](https://github.com/me/mine/raw/HEAD/docs/figures/peers.png)" in page
            assert "](https://github.com/me/mine/blob/HEAD/README.zh-CN.md)" in page
            assert urls["Source"] == "https://github.com/me/mine"
        else:
            assert "peers.png" not in page and "| 中文\n" in page and "Source" not in urls


def run_tests_of(source, wheel, folder):
    """Some quick tests of a source distribution, with a wheel in an environment of its own; the dependencies
    are this one's.
    """
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python, place = environment / "bin" / "python", 'import sysconfig; print(sysconfig.get_path("purelib"))'
    here, there = (
        Path(
            subprocess.run([program, "-c", place], check=True, capture_output=True, text=True).stdout.strip()
        )
        for program in (sys.executable, python)
    )
    (there / "reused.pth").write_text(f"{here}\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(there)
    for name in ("nni_autoformer", "recipes", "search_spaces"):
        shutil.rmtree(source / name)
    tests = ["tests/test_space.py", "tests/test_readme.py", "tests/cli/test_spaces.py"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, "-m", "pytest", "-q", *tests]
    done = subprocess.run(command, cwd=source, env=clean, capture_output=True, text=True)
    where = subprocess.run(
        [python, "-c", "import nni_autoformer; print(nni_autoformer.__file__)"],
        cwd=source,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(there)), where.stderr
    return done


@pytest.mark.slow
def test_the_distributions_have_every_file_and_pass_their_tests(tmp_path):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("only a git checkout knows which files are the repository's")
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    copy = tmp_path / "copy"  # building leaves folders behind
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())

    with tarfile.open(build("sdist", copy, tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert [name for name in sorted(tracked) if name[0] != "." and not (source / name).is_file()] == []

    wheel = build("wheel", source, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {name for name in tracked if name.startswith("nni_autoformer/")}
    data = {f"nni_autoformer/{name}" for name in tracked if name.startswith(("recipes/", "search_spaces/"))}
    assert "nni_autoformer/py.typed" in packed
    assert packed == package | data

    done = run_tests_of(source, wheel, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
