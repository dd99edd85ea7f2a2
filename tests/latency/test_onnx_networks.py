"""Subnets that are put together from exported parts are those that the exporter writes as a whole."""

from collections import Counter

import numpy as np
import pytest
import torch

from nni_autoformer import Architecture, SearchSpace
from nni_autoformer.export import onnx_of
from nni_autoformer.latency.onnx_networks import OnnxNetworks, shapes_of
from nni_autoformer.latency.pieces import Piece, Top
from nni_autoformer.nn.relative_position import build_token_grid
from nni_autoformer.nn.subnet import Subnet

MODEL = SearchSpace.load("digits").with_model(num_classes=7).model  # nobody else exports its parts


@pytest.mark.slow  # the exporter needs seconds for each part
def test_parts_in_a_row_are_the_exported_subnet():
    import onnx
    import onnxruntime

    architecture = Architecture(48, (1, 1), (2.0, 2.0))
    grid = build_token_grid(MODEL.grid_size, MODEL.max_relative_position, MODEL.relative_position)
    subnet = Subnet(architecture, MODEL, token_grid=grid).eval()
    subnet.blocks[1].load_state_dict(subnet.blocks[0].state_dict())
    networks = OnnxNetworks(MODEL, grid)
    networks._built = lambda kind, sizes: _part_of(subnet, kind, sizes)  # with the subnet's own weights
    content = networks.model_of(Piece("subnet", architecture))
    row = onnx.load_from_string(content)
    onnx.checker.check_model(row)
    whole = onnx_of(subnet, torch.randn(2, 1, 16, 16), "images", "logits")
    assert Counter(node.op_type for node in row.graph.node) == Counter(
        node.op_type for node in whole.graph.node
    )
    sizes = [[tuple(tensor.dims) for tensor in model.graph.initializer] for model in (row, whole)]
    assert [shapes.count((48, 3 * 64)) for shapes in sizes] == [2, 2]  # each block has weights of its own
    images = torch.randn(3, 1, 16, 16)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = subnet(images).numpy()
    assert np.allclose(session.run(["logits"], {"images": images.numpy()})[0], expected, atol=1e-5)


def _part_of(subnet, kind, sizes):
    if kind == "block":
        return subnet.blocks[shapes_of(subnet.architecture).index(sizes)]
    if kind == "head":
        top = Top(48, MODEL)
        top.norm, top.head = subnet.norm, subnet.head
        return top
    return _Stem(subnet)


class _Stem(torch.nn.Module):
    def __init__(self, subnet):
        super().__init__()
        self.subnet = subnet

    def forward(self, images):
        from nni_autoformer.nn.layers import add_tokens

        return add_tokens(self.subnet.patch_embed(images), self.subnet.cls_token, self.subnet.pos_embed)
