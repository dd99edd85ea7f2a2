"""A subnet in a form that other programs run: safetensors, torch.export, ONNX; checked before it counts."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .architecture import Architecture
from .checkpoints import Checkpoint, save_subnet
from .checkpoints.writing import whole_file
from .errors import ConfigError
from .nn.subnet import Subnet

TOLERANCES = {"safetensors": 1e-5, "torch-export": 1e-5, "onnx": 1e-4}
"""By format: how far the logits may be from the supernet's own for this architecture."""

FACTS_FILE = "nni_autoformer.json"
"""Name of the extra file within a program of torch.export, see `deployment_facts`."""


class Exported(NamedTuple):
    """What an export wrote.

    Attributes:
        path: file of the network.
        difference: largest difference of a logit from the checkpoint's.
    """

    path: Path
    difference: float


def export_subnet(
    checkpoint: Checkpoint | str | Path,
    architecture: Architecture | str | Path | None,
    format: str,
    output: str | Path,
) -> Exported:
    """Write a subnet of a checkpoint, compared with the network that the checkpoint itself gives.

    Args:
        checkpoint: a supernet, or a single subnet's file; opened or not.
        architecture: which subnet, see `Checkpoint.architecture`.
        format: name of the format, as for `export`.
        output: file that is written.

    Raises:
        ConfigError: as `export`, or the checkpoint cannot be used.
    """
    checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    architecture = checkpoint.architecture(architecture)
    if checkpoint.header.of_supernet:
        supernet = checkpoint.supernet().eval()
        supernet.set_architecture(architecture)
        subnet, reference = supernet.extract(architecture), supernet
        difference = export(subnet, reference, format, output, checkpoint.header.run)
    else:
        subnet = checkpoint.subnet(architecture)
        difference = export(subnet, subnet, format, output, checkpoint.header.run)
    return Exported(Path(output), difference)


def export(
    subnet: Subnet,
    reference: Callable[[Tensor], Tensor],
    format: str,
    path: str | Path,
    run: Mapping[str, Any] | None = None,
) -> float:
    """Write a subnet, and compare what was written with the network it came from.

    The file takes its name only after the comparison, so a wrong export leaves nothing.

    Args:
        subnet: the network, on the CPU.
        reference: gives the logits of the supernet for this architecture.
        format: 'safetensors', 'torch-export' or 'onnx'; the last two take any batch size.
        path: the file.
        run: what is known of the run that the weights come from, `RunFacts` or the same as JSON values. The
            header of a safetensors file holds all of it, and `nni-autoformer test` needs it; the other
            formats carry how images are prepared and what the logits mean, see `deployment_facts`.

    Returns:
        The largest difference of a logit, over two batches of different sizes.

    Raises:
        ConfigError: the format is unknown, a package that it needs is missing, the file cannot be written, or
            the written network gives other logits.
    """
    if format not in TOLERANCES:
        raise ConfigError(f"--format {format}: known are {', '.join(TOLERANCES)}.")
    write, read = _FORMATS[format]
    subnet = subnet.eval()
    generator = torch.Generator().manual_seed(0)
    shape = (subnet.model.in_chans, *subnet.model.img_size)
    batches = [torch.randn(size, *shape, generator=generator) for size in (2, 3)]
    with whole_file(path) as temporary, torch.no_grad():
        write(subnet, batches[0], temporary, run or {})
        network = read(temporary)
        differences = [(network(batch) - reference(batch)).abs().max().item() for batch in batches]
        if not all(map(math.isfinite, differences)):
            raise ConfigError("the network's logits are NaN or infinite, so nothing was written.")
        if (difference := max(differences)) > TOLERANCES[format]:
            raise ConfigError(
                f"the exported network's logits differ by {difference:.2g} from the supernet's; at most "
                f"{TOLERANCES[format]:g} is allowed, so nothing was written."
            )
    return difference


def deployment_facts(subnet: Subnet, run: Mapping[str, Any]) -> dict[str, Any]:
    """What a program needs to know that runs an exported network, as JSON values.

    Args:
        subnet: the network.
        run: what is known of the training.
    """
    model = subnet.model
    facts = {
        "input_size": [model.in_chans, *model.img_size],
        "architecture": subnet.architecture.to_dict(),
        "model": model.to_dict(),
        **{key: run.get(key) for key in ("mean", "std", "crop_pct", "interpolation", "classes", "dataset")},
    }
    return {key: value for key, value in facts.items() if value is not None}


def _write_safetensors(subnet: Subnet, example: Tensor, path: Path, run: Mapping[str, Any]) -> None:
    save_subnet(path, subnet, run)


def _read_safetensors(path: Path) -> Callable[[Tensor], Tensor]:
    return Checkpoint(path).subnet()


def _exported_program(subnet: Subnet, example: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    return torch.export.export(subnet, (example,), dynamic_shapes={"images": {0: batch}})


def _write_torch(subnet: Subnet, example: Tensor, path: Path, run: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()  # torch's own writer ends the process where a disk refuses
    facts = {FACTS_FILE: json.dumps(deployment_facts(subnet, run))}
    torch.export.save(_exported_program(subnet, example), buffer, extra_files=facts)
    path.write_bytes(buffer.getbuffer())


def _read_torch(path: Path) -> Callable[[Tensor], Tensor]:
    with open(path, "rb") as file:
        return torch.export.load(file).module()


def require_onnx(flag: str = "--format onnx") -> None:
    """Check that the packages for ONNX are there.

    Args:
        flag: what needs them, for the error message.

    Raises:
        ConfigError: one is missing; the sentence says how to install them.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        try:
            __import__(package)
        except ImportError:
            raise ConfigError(
                f"{flag} needs the package {package}: pip install 'nni-autoformer[onnx]'."
            ) from None


def _write_onnx(subnet: Subnet, example: Tensor, path: Path, run: Mapping[str, Any]) -> None:
    require_onnx()
    proto = onnx_of(subnet, example, "images", "logits")
    for key, value in deployment_facts(subnet, run).items():
        proto.metadata_props.add(key=key, value=json.dumps(value))
    path.write_bytes(proto.SerializeToString())


def onnx_of(network: torch.nn.Module, example: Tensor, input_name: str, output_name: str) -> Any:
    """A network, or a part of one, as an ONNX model of any batch size.

    Args:
        network: takes and gives one tensor, whose first dimension is the batch.
        example: an input.
        input_name, output_name: names of input and output.
    """
    program = torch.onnx.export(
        network,
        (example,),
        input_names=[input_name],
        output_names=[output_name],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


_FORMATS: dict[str, tuple[Callable[..., None], Callable[[Path], Callable[[Tensor], Tensor]]]] = {
    "safetensors": (_write_safetensors, _read_safetensors),
    "torch-export": (_write_torch, _read_torch),
    "onnx": (_write_onnx, _read_onnx),
}
