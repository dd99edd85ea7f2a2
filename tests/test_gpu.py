"""What only a GPU shows. Skipped without one; with one: `CUDA_VISIBLE_DEVICES=0 pytest tests/test_gpu.py`."""

import copy
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from nni_autoformer import SearchSpace, Subnet, build_supernet
from nni_autoformer.cli import main
from nni_autoformer.memory import activations
from nni_autoformer.nn.compiling import compile_blocks
from nni_autoformer.nn.layers import patch_tokens

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, see CUDA_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def _no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def networks(name="tiny"):
    """The same supernet on the CPU and on the GPU, at a subnet, with images and labels."""
    space = SearchSpace.load(name)
    torch.manual_seed(0)
    ours = build_supernet(space)
    ours.set_architecture(space.architecture("middle"))
    other = copy.deepcopy(ours).to("cuda")
    other.set_architecture(space.architecture("middle"))
    images = torch.randn(4, space.model.in_chans, *space.model.img_size)
    return ours, other, images, torch.arange(4)


def loss_and_gradients(network, images, labels):
    network.zero_grad()
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_a_step_in_float32_is_the_cpus():
    ours, other, images, labels = networks()
    expected, expected_gradients = loss_and_gradients(ours, images, labels)
    loss, gradients = loss_and_gradients(other, images.cuda(), labels.cuda())
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient.cpu(), expected_gradients[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_relative_attention_is_one_flash_kernel_in_half_precision(dtype):
    ours, other, images, _ = networks()
    expected = ours.eval()(images)
    other.eval()
    with torch.autocast("cuda", dtype), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        logits = other(images.cuda())
    torch.testing.assert_close(logits.float().cpu(), expected, rtol=0.05, atol=0.05)


def test_compiled_blocks_are_the_blocks():
    _, network, images, labels = networks()
    images, labels = images.cuda(), labels.cuda()
    expected, expected_gradients = loss_and_gradients(network, images, labels)
    blocks = compile_blocks(network)
    loss, gradients = loss_and_gradients(network, images, labels)
    assert blocks.failure is None
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_step_never_waits_for_the_gpu():
    _, network, images, labels = networks()
    images, labels = images.cuda(), labels.cuda()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    space = network.space
    for architecture in (space.smallest, space.largest):  # what is built once is built now
        network.set_architecture(architecture)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        network.set_architecture(space.architecture("middle"))
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


SEARCH = "--population-size 6 --num-parents 3 --num-mutations 2 --num-crossovers 2 --generations 1"


@pytest.mark.parametrize("flags", ["", "--precision fp16", "--sampling sandwich --model-ema"])
def test_a_supernet_is_trained_and_searched(flags, tmp_path):
    run = tmp_path / "run"
    train = "train --space digits --dataset digits --device cuda --recipe small-data --warmup-epochs 0"
    train += f" --epochs 2 {flags}"
    assert main([*train.split(), "--output", str(run)]) == 0
    accuracies = {}
    for device in ("cpu", "cuda"):
        checkpoint = f"--checkpoint {run / 'supernet.safetensors'} --dataset digits --device {device}"
        assert main(["search", *checkpoint.split(), *SEARCH.split(), "--output", str(tmp_path / device)]) == 0
        lines = (tmp_path / device / "candidates.jsonl").read_text().splitlines()
        accuracies[device] = [json.loads(line)["top1"] for line in lines]
    # an image on the border between two classes may fall on either side
    assert accuracies["cuda"] == pytest.approx(accuracies["cpu"], abs=1.0)


def test_a_subnet_trains_compiled(tmp_path):
    command = "retrain --space digits --architecture smallest --dataset digits --device cuda --compile"
    command += f" --recipe small-data --warmup-epochs 0 --epochs 2 --output {tmp_path}"
    assert main(command.split()) == 0


def test_a_training_stopped_and_resumed_is_the_whole_one(tmp_path):
    """With fused AdamW's state and the generators' on the GPU; sums on a GPU have no fixed order."""
    train = "-m nni_autoformer train --space digits --dataset digits --device cuda --recipe small-data"
    train += " --warmup-epochs 1 --epochs 6"
    command = [sys.executable, *train.split(), "--output"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    stopped = subprocess.Popen([*command, str(tmp_path / "stopped")])
    while not (tmp_path / "stopped" / "training.ckpt").exists():
        assert stopped.poll() is None
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 143
    subprocess.run([*command, str(tmp_path / "stopped"), "--resume"], check=True)
    whole, resumed = (load_file(tmp_path / name / "supernet.safetensors") for name in ("whole", "stopped"))
    for name, weights in whole.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0.01, atol=1e-3, msg=name)


def test_patches_are_projected_as_a_convolution_does():
    images, weight, bias = torch.randn(2, 3, 32, 48), torch.randn(8, 3, 16, 16), torch.randn(8)
    tokens = patch_tokens(images.cuda(), weight.cuda(), bias.cuda())
    torch.testing.assert_close(tokens.cpu(), patch_tokens(images, weight, bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_memory_is_what_the_gpu_allocates(precision, dtype):
    """Within a tenth: kernels take a workspace, the allocator rounds, patches are copied first."""
    space = SearchSpace.load("tiny")
    architecture = space.architectures["published"]
    network = Subnet(architecture, space.model).eval().to("cuda", dtype)
    images = torch.zeros(16, 3, 224, 224, device="cuda", dtype=dtype)
    with torch.inference_mode():
        network(images)  # libraries take their own memory once
        before = torch.cuda.memory_allocated() - images.nbytes
        torch.cuda.reset_peak_memory_stats()
        network(images)
        used = torch.cuda.max_memory_allocated() - before
    assert activations(architecture, space.model, 16, precision) == pytest.approx(used, rel=0.1)
