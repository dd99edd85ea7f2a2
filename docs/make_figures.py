"""The figures of the README that commands draw, in `docs/figures/`; about ten minutes on two CPU cores.

    python docs/make_figures.py

The pictures of NNI's web UI are made by `docs/web_ui.py`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FIGURES = Path(__file__).with_name("figures")
COMMANDS = """
demo --output {runs}/demo --device cpu
sample --checkpoint {runs}/demo/supernet.safetensors --dataset digits --split test --device cpu
    --architecture {runs}/demo/best.yaml smallest largest --output {runs}/sample
latency --space digits --threads 1 --output {runs}/digits.yaml
search --checkpoint {runs}/demo/supernet.safetensors --pareto params,latency --surrogate --generations 5
    --latency-table {runs}/digits.yaml --device cpu --output {runs}/front
plot --peers --output {figures}/peers.png
"""
COPIES = {
    "demo/candidates.png": "demo.png",
    "sample/samples.png": "sample.png",
    "front/front.png": "front.png",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as runs:
        for command in COMMANDS.replace("\n    ", " ").strip().splitlines():
            words = command.format(runs=runs, figures=FIGURES).split()
            print("nni-autoformer", *words, flush=True)
            subprocess.run([sys.executable, "-m", "nni_autoformer", *words], check=True)
        for made, name in COPIES.items():
            shutil.copyfile(Path(runs) / made, FIGURES / name)


if __name__ == "__main__":
    main()
