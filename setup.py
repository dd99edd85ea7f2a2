"""Packaging; the tools' settings are in pyproject.toml."""

import os
import re
import subprocess
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def repository():
    """The address of the project's repository on GitHub: what NNI_AUTOFORMER_REPOSITORY says, or what the
    source distribution has recorded, or where the checkout was cloned from; empty if nothing knows it.
    """
    told = os.environ.get("NNI_AUTOFORMER_REPOSITORY", "")
    if not told and (HERE / "PKG-INFO").is_file():
        recorded = re.search(r"^Project-URL: Source, (\S+)", (HERE / "PKG-INFO").read_text("utf-8"), re.M)
        told = recorded[1] if recorded else ""
    if not told and (HERE / ".git").exists():
        command = ["git", "-C", str(HERE), "remote", "get-url", "origin"]
        try:
            told = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:  # no git
            told = ""
    found = re.fullmatch(r"(?:https://|ssh://git@|git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?", told)
    return f"https://github.com/{found[1]}" if found else ""


def for_an_index_page(text, address):
    """README with links that an index page can follow: relative ones become those of the repository. Without
    an address pictures are left out, and links are their text.
    """
    pattern = r"(!?)\[([^]]*)\]\((?!https?://|#)([^)\s]+)\)"

    def absolute(link):
        picture, words, path = link.groups()
        if not address:
            return "" if picture else words
        return f"{picture}[{words}]({address}/{'raw' if picture else 'blob'}/HEAD/{path})"

    return re.sub(pattern, absolute, text)


SOURCE = repository()
DATA = ["nni_autoformer.search_spaces", "nni_autoformer.recipes"]
ONNX = ["onnx", "onnx-ir", "onnxruntime", "onnxscript"]
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "nni_autoformer/__init__.py").read_text()).group(1)

setup(
    name="nni-autoformer",
    version=VERSION,
    description="AutoFormer (ICCV 2021) for NNI 3.0: search vision transformers that fit a budget",
    long_description=for_an_index_page((HERE / "README.md").read_text(encoding="utf-8"), SOURCE),
    long_description_content_type="text/markdown",
    license="MIT",
    project_urls={
        **({"Source": SOURCE, "Documentation": f"{SOURCE}#readme"} if SOURCE else {}),
        "Paper": "https://arxiv.org/abs/2107.00651",
        "Published code": "https://github.com/microsoft/Cream/tree/main/AutoFormer",
        "NNI": "https://github.com/microsoft/nni",
    },
    python_requires=">=3.10",
    packages=[*find_packages(include=["nni_autoformer", "nni_autoformer.*"]), *DATA],
    # spaces and recipes stand at the top level for people to read, and travel inside the package
    package_dir={name: name.rpartition(".")[2] for name in DATA},
    package_data={
        "nni_autoformer": ["py.typed"],
        "nni_autoformer.experiment": ["*.js"],
        "nni_autoformer.report": ["peers.csv"],
        **{name: ["*.yaml"] for name in DATA},
    },
    install_requires=[
        "torch>=2.6",
        "torchvision",
        "nni==3.0",
        "timm>=1.0.9",
        "pyyaml",
        "pytorch-lightning>=2.6",  # NNI's one-shot needs it, undeclared; 2.6 resumes with weights_only
        "setuptools<82",  # nnictl imports pkg_resources
        "torchmetrics",
        "safetensors",
        "filelock",
        "scikit-learn",
        "threadpoolctl",
        "tensorboard",
        "matplotlib>=3.6",
        "adjustText>=1.4",  # the same names at the same places every time, from here on
        "numpy",
        "scipy",
        "pillow",
        "requests",
        "psutil",
        "tqdm",
        "shtab",  # shell completion; imported when it is asked for
    ],
    extras_require={
        "onnx": ONNX,
        "openvino": [*ONNX, "openvino"],  # for latency --runtime openvino
        "wandb": ["wandb"],  # for --logger wandb
        "mlflow": ["mlflow"],  # for --logger mlflow
        "datasets": ["datasets", "huggingface_hub", "webdataset"],  # for --dataset hfds/… and wds/…
        "test": [
            *ONNX,
            *("pytest>=7", "pytest-xdist>=3.6", "hypothesis", "selenium"),
            *("ruff", "mypy", "types-PyYAML"),
        ],
    },
    entry_points={"console_scripts": ["nni-autoformer=nni_autoformer.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
