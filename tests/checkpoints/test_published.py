"""Equal to the published code: logits, gradients, counts and a training trajectory computed with it.

The golden files hold numbers only; the weights are regenerated from the bit generator, see `weights`.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from nni_autoformer import Architecture, SearchSpace, build_supernet
from nni_autoformer.checkpoints.layouts import published_key
from nni_autoformer.complexity import params

DATA = Path(__file__).parents[1] / "golden"
MINI = json.loads((DATA / "mini.json").read_text())
PUBLISHED = json.loads((DATA / "published.json").read_text())
MINI_SPACE = SearchSpace.from_dict(
    {
        "name": "mini",
        "choices": {
            "embed_dim": [72, 120, 192],
            "depth": [2, 3, 4],
            "num_heads": [1, 2, 3],
            "mlp_ratio": [1.0, 1.33, 2.0],
        },
        "model": {"img_size": 32, "patch_size": 8, "num_classes": 10},
    }
)


def weights(key, shape):
    """Values of a tensor as a function of its name, from raw PCG64 bits."""
    raw = np.random.PCG64(zlib.crc32(key.encode())).random_raw(math.prod(shape))
    t = 2 * ((raw >> np.uint64(11)) * 2.0**-53) - 1
    if "norm" in key and key.endswith(".weight"):
        value = 1 + 0.2 * t
    elif key.endswith(".bias"):
        value = 0.1 * t
    elif "embeddings_table" in key:
        value = 0.3 * t
    elif key in ("cls_token", "pos_embed"):
        value = 0.5 * t
    elif key == "input":
        value = 2 * t
    else:
        value = t * math.sqrt(3 / math.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32)).reshape(shape)


def test_the_regenerated_weights_are_the_golden_ones():
    for key, first in PUBLISHED["generator_selfcheck_first4"].items():
        shape = {"head.weight": (1000, 256), "blocks.0.attn.qkv.weight": (768, 256)}.get(key, (4,))
        torch.testing.assert_close(weights(key, shape).flatten()[:4], torch.tensor(first), rtol=0, atol=0)


def architecture(config):
    return Architecture(config["embed_dim"][0], config["num_heads"], config["mlp_ratio"])


def loaded(space, published_shapes=None, half=False):
    """A supernet with the golden weights; `published_shapes` maps key parts to sizes that the file has more
    of.
    """
    supernet = build_supernet(space).eval()
    state = {}
    for key, tensor in supernet.state_dict().items():
        name = published_key(key)
        shape = (
            tuple(tensor.shape) if published_shapes is None else published_shapes(name, tuple(tensor.shape))
        )
        value = weights(name, shape)
        value = value.half().float() if half else value
        state[key] = value[tuple(slice(size) for size in tensor.shape)]
    supernet.load_state_dict(state)
    return supernet


def mini(variant):
    options = MINI["variants"][variant]["options"]
    space = MINI_SPACE.with_model(
        global_pool="avg" if options["gp"] else "token",
        relative_position=options["relative_position"],
        absolute_position=options["abs_pos"],
        max_relative_position=options["max_relative_position"],
    )
    return space, loaded(space, half=True)


@pytest.mark.parametrize("variant", list(MINI["variants"]))
def test_mini_logits_and_counts(variant):
    space, supernet = mini(variant)
    golden = np.load(DATA / "mini_outputs.npz")
    images = torch.from_numpy(golden["input"]).float()
    for name, entry in MINI["variants"][variant]["configs"].items():
        arch = architecture(entry["config"])
        assert params(arch, space.model) == entry["exact_param_count"]
        supernet.set_architecture(arch)
        with torch.no_grad():
            single = supernet.float()(images)
            double = supernet.double()(images.double())
        expected = torch.from_numpy(golden[f"{variant}/{name}/logits64"])
        torch.testing.assert_close(double, expected, rtol=0, atol=1e-9)
        expected = torch.from_numpy(golden[f"{variant}/{name}/logits32"])
        torch.testing.assert_close(single, expected, rtol=0, atol=2e-6)


def test_mini_gradients():
    _, supernet = mini("base")
    golden = np.load(DATA / "mini_outputs.npz")
    supernet.double().set_architecture(architecture(MINI["variants"]["base"]["configs"]["mix_a"]["config"]))
    logits = supernet(torch.from_numpy(golden["input"]).double())
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(golden["labels"]).long())
    loss.backward()
    expected = MINI["gradients_mix_a"]["base"]
    assert loss.item() == pytest.approx(expected["loss64"], abs=1e-9)
    gradients = {published_key(name): p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    for name, norm in expected["grad_l2"].items():
        if name not in gradients:  # a layer that the subnet does not have
            assert norm in (None, 0.0), name
            continue
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-7), name
    stored = np.load(DATA / "mini_grads_base_mix_a.npz")
    assert len(stored.files) == 20
    for name in stored.files:
        value = torch.from_numpy(stored[name]).double()
        torch.testing.assert_close(gradients[name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_mini_adamw_trajectory_of_todays_zero_grad():
    from timm.optim import create_optimizer_v2

    golden = MINI["adamw_trajectory"]
    data = np.load(DATA / "mini_outputs.npz")
    images, labels = torch.from_numpy(data["input"]).double(), torch.from_numpy(data["labels"]).long()
    _, supernet = mini("base")
    supernet.double()
    optimizer = create_optimizer_v2(
        supernet, opt="adamw", lr=golden["lr"], weight_decay=golden["weight_decay"], betas=golden["betas"]
    )
    losses = []
    for name in golden["sequence"]:
        supernet.set_architecture(architecture(golden["configs"][name]))
        loss = torch.nn.functional.cross_entropy(supernet(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    (expected,) = [run for name, run in golden["runs"].items() if "to_none" in name]
    assert losses == pytest.approx(expected["losses"], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "subnet"), [("T", "published"), ("T", "space_max"), ("S", "published"), ("S", "space_min")]
)
def test_published_models(name, subnet):
    """The published T file is 256 wide; loading it drops the channels that no subnet uses."""
    wide = {240: 256} if name == "T" else {}
    if subnet == "space_max" or name == "S":
        space = SearchSpace.load({"T": "tiny", "S": "small"}[name])
    else:
        space = SearchSpace.load("tiny")

    def in_the_file(key, shape):
        shape = [wide.get(size, size) for size in shape]
        if wide and "fc" in key:
            shape = [1024 if size == 960 else size for size in shape]
        return tuple(shape)

    supernet = loaded(space, in_the_file)
    golden = PUBLISHED["models"][name][subnet]
    arch = architecture(golden["config"])
    assert params(arch, space.model) == golden["exact_param_count"]
    supernet.double().set_architecture(arch)
    images = weights("input", (2, 3, 224, 224)).double()
    trace = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, i=i: trace.update({f"block{i}": out}))
        for i, block in enumerate(supernet.blocks.blocks)
    ]
    with torch.no_grad():
        logits = supernet(images)
    torch.testing.assert_close(
        logits[:, :16], torch.tensor(golden["logits64_first16"], dtype=torch.float64), rtol=0, atol=1e-9
    )
    assert logits.norm(dim=1).tolist() == pytest.approx(golden["logits64_l2"], abs=1e-9)
    assert logits.argmax(1).tolist() == golden["argmax"]
    for step, norm, seventh in golden["trace64_name_l2_elem7"]:
        if step in trace:
            assert trace[step].norm().item() == pytest.approx(norm, rel=1e-10), step
            assert trace[step].flatten()[7].item() == pytest.approx(seventh, abs=1e-9), step
    assert len(trace) == arch.depth
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        single = supernet.float()(images.float())
    torch.testing.assert_close(single[:, :16], torch.tensor(golden["logits32_first16"]), rtol=0, atol=2e-6)
