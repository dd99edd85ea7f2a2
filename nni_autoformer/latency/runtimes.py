"""What runs a network: torch, torch with compiled blocks, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..complexity import params
from ..devices import AUTOCAST, pick_device
from ..errors import ConfigError
from ..export import require_onnx
from ..latency_table import Conditions
from ..memory import memory
from ..nn.compiling import CompiledBlocks, compile_blocks
from ..nn.relative_position import build_token_grid
from ..space import ModelConfig
from .onnx_networks import INPUT, OUTPUT, OnnxNetworks
from .pieces import Piece, Weights, input_shape, module_of

Run = Callable[[], Any]
"""One forward pass, until its result is there."""


class Torch:
    """Plain subnets in PyTorch, in inference mode.

    Args:
        conditions: device, batch size and precision.
        model: the network around the blocks.
    """

    def __init__(self, conditions: Conditions, model: ModelConfig) -> None:
        self.conditions, self.model = conditions, model
        self.device = pick_device(conditions.device)
        self.dtype = AUTOCAST[conditions.precision] or torch.float32
        self._grid = build_token_grid(model.grid_size, model.max_relative_position, model.relative_position)
        if self._grid is not None:
            self._grid = self._grid.to(self.device, self.dtype)
        self._weights = Weights(self.device, self.dtype)
        self._images: dict[tuple[int, ...], Tensor] = {}

    def prepare(self, piece: Piece) -> None:
        """Nothing is shared between pieces."""

    def open(self, piece: Piece) -> Run:
        """A piece, ready to run."""
        module = self._weights.fill(module_of(piece, self.model, self._grid))
        shape = (self.conditions.batch_size, *input_shape(piece, self.model))
        if shape not in self._images:
            self._images[shape] = torch.randn(shape, device=self.device).to(self.dtype)
        self._change(module)
        return functools.partial(self._run, module, self._images[shape])

    def _change(self, module: torch.nn.Module) -> None:
        """What is done to a network before it runs."""

    def _run(self, module: torch.nn.Module, images: Tensor) -> None:
        with torch.inference_mode():
            module(images)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

    def bytes_of(self, piece: Piece) -> int:
        """What an open piece keeps; weights and images are shared."""
        return 1 << 16


class Compiled(Torch):
    """As `Torch`, each block compiled by itself; a shape is compiled once for all subnets."""

    _blocks: CompiledBlocks | None = None

    def _change(self, module: torch.nn.Module) -> None:
        self._blocks = compile_blocks(module, report=lambda sentence: None, blocks=self._blocks)
        self._require_compiled()

    def _run(self, module: torch.nn.Module, images: Tensor) -> None:
        super()._run(module, images)
        self._require_compiled()

    def _require_compiled(self) -> None:
        if self._blocks is not None and self._blocks.failure is not None:
            raise ConfigError(
                f"--runtime compile: torch.compile does not work here ({self._blocks.failure}); take "
                "--runtime torch."
            )


class OnnxRuntime:
    """Sessions of ONNX Runtime, on the file that `nni-autoformer export --format onnx` writes.

    Args:
        conditions: device, batch size and threads.
        model: the network around the blocks.
    """

    def __init__(self, conditions: Conditions, model: ModelConfig) -> None:
        self.conditions, self.model = conditions, model
        grid = build_token_grid(model.grid_size, model.max_relative_position, model.relative_position)
        self.networks = OnnxNetworks(model, grid)
        self._images: dict[tuple[int, ...], Any] = {}

    def prepare(self, piece: Piece) -> None:
        """Export what the piece is made of."""
        self.networks.prepare(piece)

    def images(self, piece: Piece) -> Any:
        """A batch of inputs as numpy's array."""
        shape = (self.conditions.batch_size, *input_shape(piece, self.model))
        return self._images.setdefault(shape, torch.randn(shape).numpy())

    def open(self, piece: Piece) -> Run:
        """A piece, ready to run."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.conditions.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        provider = "CUDAExecutionProvider" if self.conditions.device == "cuda" else "CPUExecutionProvider"
        content = self.networks.model_of(piece)
        session = onnxruntime.InferenceSession(content, options, providers=[provider])
        return functools.partial(session.run, [OUTPUT], {INPUT: self.images(piece)})

    def bytes_of(self, piece: Piece) -> int:
        """What an open piece keeps: its weights twice, as they are and packed, and room for activations."""
        whole = memory(piece.architecture, self.model, self.conditions.batch_size)
        return int(whole) + 4 * params(piece.architecture, self.model)


class OpenVino(OnnxRuntime):
    """OpenVINO, on the same ONNX file, with the batch size fixed."""

    def open(self, piece: Piece) -> Run:
        """A piece, ready to run."""
        import openvino

        core, images = openvino.Core(), self.images(piece)
        network = core.read_model(self.networks.model_of(piece))
        network.reshape(list(images.shape))
        config = {
            "INFERENCE_NUM_THREADS": self.conditions.threads,
            "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[self.conditions.precision][0],
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = core.compile_model(network, "CPU", config).create_infer_request()
        return functools.partial(request.infer, {0: images}, share_inputs=True)


OPENVINO_TYPES = {"fp32": ("f32", "FP32"), "bf16": ("bf16", "BF16"), "fp16": ("f16", "FP16")}
"""By precision: the name of OpenVINO's type, and that of the processor's capability."""

Runtime = Torch | OnnxRuntime

_RUNTIMES: dict[str, Callable[[Conditions, ModelConfig], Runtime]] = {
    "torch": Torch,
    "compile": Compiled,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def require_runtime(conditions: Conditions) -> None:
    """Check that the runtime is installed and can do what is wanted.

    Raises:
        ConfigError: a package is missing, there is no such device, or the runtime does not compute with the
            precision.
    """
    pick_device(conditions.device)
    if conditions.runtime in ("onnxruntime", "openvino"):
        require_onnx(f"--runtime {conditions.runtime}")
    if conditions.runtime == "onnxruntime":
        _require_onnxruntime(conditions)
    if conditions.runtime == "openvino":
        _require_openvino(conditions)


def _require_onnxruntime(conditions: Conditions) -> None:
    import onnxruntime

    if conditions.precision != "fp32":
        raise ConfigError(
            f"--precision {conditions.precision}: for --runtime onnxruntime networks are exported in fp32; "
            "take --precision fp32, or --runtime torch."
        )
    if conditions.device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ConfigError(
            "--device cuda: this ONNX Runtime runs on the CPU only; install onnxruntime-gpu in its place."
        )


def _require_openvino(conditions: Conditions) -> None:
    try:
        import openvino
    except ImportError:
        raise ConfigError(
            "--runtime openvino needs the package openvino: pip install 'nni-autoformer[openvino]'."
        ) from None
    if conditions.device != "cpu":
        raise ConfigError(f"--device {conditions.device}: --runtime openvino runs on the CPU only.")
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if OPENVINO_TYPES[conditions.precision][1] not in able:
        raise ConfigError(
            f"--precision {conditions.precision}: OpenVINO does not compute with it on this processor; take "
            "--precision fp32."
        )


@contextlib.contextmanager
def opened(conditions: Conditions, model: ModelConfig) -> Iterator[Runtime]:
    """A runtime; until the end torch computes with the conditions' number of threads.

    Raises:
        ConfigError: as `require_runtime`.
    """
    require_runtime(conditions)
    before = torch.get_num_threads()
    torch.set_num_threads(conditions.threads)
    try:
        yield _RUNTIMES[conditions.runtime](conditions, model)
    finally:
        torch.set_num_threads(before)
