"""A checkpoint, opened once: its header, its supernet, its subnets.

Importing this loads no torch, and the header of a file that this package wrote is read without it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..architecture import Architecture
from ..errors import ConfigError
from ..space import SearchSpace
from .header import OWN_KINDS, Header, own_header

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import AutoFormer
    from ..nn.subnet import Subnet


class Checkpoint:
    """A file with the weights of a supernet or of a subnet: one that this package wrote, or other people's,
    recognised by its key names. Weights of fp16, bf16 and float64 become float32.

    A supernet's tensors carry the published key names (`patch_embed_super.proj`,
    `blocks.{i}.attn_layer_norm`, …), a subnet's timm's. What the file says of itself is read at once; a file
    without a header of ours is read whole, one time. Tensors of safetensors files are memory-mapped, and of a
    supernet only the asked subnet's part is read.

    Args:
        path: file of the checkpoint.
        expected: search space that the caller expects of a supernet; needed where the file does not say it.
            Its number of classes does not count, because training sets it to the data's.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.

    Attributes:
        header: what the file is, from its header or from its tensors' names and sizes.

    Raises:
        ConfigError: the file is missing, truncated, holds code, or is no checkpoint that is known here.
    """

    def __init__(
        self, path: str | Path, expected: SearchSpace | None = None, *, use_ema: bool = False
    ) -> None:
        self.path, self.expected, self.use_ema = Path(path), expected, use_ema
        self._foreign: dict[str, Tensor] | None = None
        header = own_header(self.path)
        if header is None:
            from .foreign import open_foreign

            header, self._foreign = open_foreign(self.path, expected, use_ema)
        elif use_ema:
            raise ConfigError(
                f"{self.path}: --use-ema: the file holds one set of weights; a training writes the moving "
                "average to a file of its own, whose name ends in -ema.safetensors."
            )
        self.header: Header = header

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        from .reading import read_own

        return read_own(self.path) if self._foreign is None else self._foreign

    @property
    def choice(self) -> dict[str, bool]:
        """Which of the file's weights were asked for, as a run's record keeps it; empty for plain ones."""
        return {"use_ema": True} if self.use_ema else {}

    def require_expected(self) -> None:
        """Check that the file is of the search space that the caller expects.

        Raises:
            ConfigError: it is of another one; the sentence says what differs.
        """
        require_space(self.path, self.header, self.expected)

    def require_supernet(self) -> None:
        """Check that the file holds a supernet of the expected space.

        Raises:
            ConfigError: it holds a single subnet, or is of another space.
        """
        if not self.header.of_supernet:
            raise ConfigError(f"{self.path}: the file holds a {self.header.kind}; a supernet is needed here.")
        self.require_expected()

    def architecture(self, which: Architecture | str | Path | None = None) -> Architecture:
        """The subnet that a user means.

        Args:
            which: an architecture, a YAML file, or a name of the space's; needed for a supernet, and not for
                the file of a single subnet.

        Raises:
            ConfigError: it is missing, or no subnet of the space.
        """
        header = self.header
        if header.of_supernet:
            if which is None:
                raise ConfigError(
                    f"{self.path}: the file holds a supernet: say which subnet with --architecture."
                )
            space = self.expected or header.space
            return space.require(which) if isinstance(which, Architecture) else space.architecture(which)
        if which is None:
            return header.subnet
        wanted = which if isinstance(which, Architecture) else self._read(which)
        if not _same_sizes(wanted, header.subnet):
            if not isinstance(which, Architecture):
                header.space.require(wanted, f"{which}: the architecture")  # names the first other size
            raise ConfigError(
                f"{self.path}: the file holds one subnet, and it is not --architecture {which}."
            )
        # a foreign file knows the hidden widths only, which several ratios give
        return header.subnet if header.kind in OWN_KINDS else wanted

    def _read(self, which: str | Path) -> Architecture:
        path, space = Path(which), self.header.space
        named = str(which) in {"middle", *space.named()}
        return Architecture.from_yaml(path) if path.is_file() and not named else space.architecture(which)

    def supernet(self) -> AutoFormer:
        """Build the supernet with the file's weights.

        Raises:
            ConfigError: the file holds a single subnet, or is of another space than the expected one; a
                tensor is missing or has another shape.
        """
        from ..model import build_supernet  # NNI's whole NAS part, which a trial of one subnet does without
        from .layouts import published_key

        self.require_supernet()
        tensors = self._supernet_tensors
        supernet = build_supernet(self.header.space)
        supernet.load_state_dict(
            {
                key: tensors[published_key(key)][tuple(slice(size) for size in tensor.shape)]
                for key, tensor in supernet.state_dict().items()
            }
        )
        return supernet

    @cached_property
    def _supernet_tensors(self) -> dict[str, Tensor]:
        """A supernet's tensors under the published names, checked against its space."""
        from .layouts import hub_supernet_to_published
        from .shapes import require_supernet_shapes

        tensors = self._tensors
        if self.header.kind == "hub supernet":
            warnings.warn(
                f"{self.path}: a supernet of NNI's hub has other biases of queries, keys and values in "
                "subnets below the largest head count; the accuracy of those will differ from NNI's.",
                stacklevel=4,
            )
            try:
                tensors = hub_supernet_to_published(tensors)
            except ConfigError as error:
                raise ConfigError(f"{self.path}: {error}") from None
        require_supernet_shapes(self.path, tensors, self.header.space)
        return tensors

    def subnet(self, architecture: Architecture | None = None) -> Subnet:
        """Build one subnet with the file's weights, in evaluation mode.

        Args:
            architecture: which subnet of a supernet; None for the only one that a subnet's file holds.

        Raises:
            ConfigError: the file holds another subnet, or a supernet and no architecture was given, or a
                supernet of another space than the expected one; a tensor is missing or has another shape.
        """
        from ..nn.subnet import Subnet

        model = self.header.space.model
        if not self.header.of_supernet:
            if architecture is not None and not _same_sizes(architecture, self.header.subnet):
                raise ConfigError(f"{self.path}: the file holds one subnet, and it is not {architecture}.")
            chosen = architecture or self.header.subnet
            return Subnet.from_tensors(chosen, model, self._subnet_tensors()).eval()
        if architecture is None:
            raise ConfigError(f"{self.path}: the file holds a {self.header.kind}; a subnet is needed here.")
        return Subnet.from_tensors(architecture, model, self._part(architecture)).eval()

    def _subnet_tensors(self) -> dict[str, Tensor]:
        from .layouts import hub_to_timm
        from .shapes import require_shapes, subnet_shapes

        tensors = self._tensors
        if self.header.kind == "hub subnet":
            tensors = hub_to_timm(tensors)
        expected = subnet_shapes(self.header.subnet, self.header.space.model)
        require_shapes(self.path, tensors, expected, "the architecture of the file")
        return tensors

    def _part(self, architecture: Architecture) -> dict[str, Tensor]:
        from ..nn import slicing
        from .layouts import published_key

        self.header.space.require(architecture)
        self.require_expected()
        largest = self._supernet_tensors
        return slicing.subnet(lambda key: largest[published_key(key)], architecture, self.header.space.model)


def _same_sizes(one: Architecture, other: Architecture) -> bool:
    """Whether two architectures are the same network, whatever ratios gave the hidden widths."""
    return (one.embed_dim, one.num_heads, one.hidden_features) == (
        other.embed_dim,
        other.num_heads,
        other.hidden_features,
    )


def require_space(path: Path, header: Header, space: SearchSpace | None) -> None:
    """Check that a checkpoint is of the space that the caller expects, or a subnet of it.

    Raises:
        ConfigError: it is of another one; the sentence says what differs.
    """
    if space is None:
        return
    expected = space.with_model(num_classes=header.space.model.num_classes)
    if header.kind not in OWN_KINDS:  # what such a file says of its network has been told already
        expected = replace(space, model=header.space.model)
    if not header.of_supernet and header.subnet in space:
        expected = replace(header.space, model=expected.model)
    if differences := expected.differences(header.space):
        raise ConfigError(
            f"{path}: the checkpoint is of another search space than '{space.name}': "
            f"{'; '.join(differences)} (here: --space, there: the checkpoint)."
        )


def read_header(path: str | Path, space: SearchSpace | None = None) -> Header:
    """What a checkpoint is, see `Checkpoint.header`.

    Args:
        path: a checkpoint.
        space: search space of a supernet without a header; needed there.

    Raises:
        ConfigError: as `Checkpoint`.
    """
    return Checkpoint(path, space).header


def load_supernet(path: str | Path, space: SearchSpace | None = None) -> tuple[AutoFormer, Header]:
    """Build the supernet of a file, see `Checkpoint.supernet`.

    Args:
        path: a file that `save_supernet` wrote, a published checkpoint, or a supernet of NNI's hub.
        space: search space that the caller expects; None accepts that of the header.

    Raises:
        ConfigError: as `Checkpoint` and `Checkpoint.supernet`.
    """
    checkpoint = Checkpoint(path, space)
    return checkpoint.supernet(), checkpoint.header


def load_subnet(
    path: str | Path, architecture: Architecture | None = None, space: SearchSpace | None = None
) -> tuple[Subnet, Header]:
    """Build one subnet with the weights of a file, see `Checkpoint.subnet`.

    Args:
        path: a file that `save_subnet` wrote, a subnet of NNI's hub or in timm's layout, or any supernet.
        architecture: which subnet of a supernet; None for the only one that a subnet's file holds.
        space: search space that the caller expects of a supernet.

    Raises:
        ConfigError: as `Checkpoint` and `Checkpoint.subnet`.
    """
    checkpoint = Checkpoint(path, space)
    return checkpoint.subnet(architecture), checkpoint.header
