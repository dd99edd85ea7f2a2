"""The search space: the sizes of a subnet and the network around them (paper section 3.3, table 1)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import yaml

from .architecture import KEYS, Architecture, is_integer, is_number
from .config import shown
from .errors import ConfigError
from .files import packaged_names, packaged_or_own, read_yaml, write_text
from .model_config import POOLS, ModelConfig
from .published_yaml import published_space

__all__ = ["POOLS", "Architecture", "ModelConfig", "SearchSpace", "packaged_spaces"]

LARGEST = {"embed_dim": 1 << 16, "depth": 1000, "num_heads": 1000, "mlp_ratio": 1000}
"""Above these a number is a slip of the pen, and counting the space's subnets would take for ever."""

LONGEST_NAME = 300
"""Characters of a space's name, which stands in titles and messages."""


@dataclass(frozen=True)
class SearchSpace:
    """A set of architectures and the network that they are parts of; equal when every choice is.

    Attributes:
        name: name in messages and file headers.
        embed_dim, depth, num_heads, mlp_ratio: the choices, ascending. The first two hold for the whole
            network, the last two are chosen per layer.
        model: what all subnets have in common.
        architectures: subnets with a name, for instance 'published'.
    """

    name: str
    embed_dim: tuple[int, ...]
    depth: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]
    model: ModelConfig = ModelConfig()
    architectures: Mapping[str, Architecture] = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self) -> None:
        for name, architecture in self.architectures.items():
            self.require(architecture, f"{self.name}: the architecture '{name}'")

    # Reading and writing

    @classmethod
    def load(cls, name_or_path: SearchSpace | str | Path) -> SearchSpace:
        """A packaged space by its name ('tiny', 'digits', …), or a YAML file: ours, or one of the published
        code with the sections SUPERNET and SEARCH_SPACE. A space is given back as it is.

        Raises:
            ConfigError: there is no such space or file, or its content is wrong; the sentence names file and
                key.
        """
        if isinstance(name_or_path, SearchSpace):
            return name_or_path
        path = packaged_or_own(name_or_path, "search_spaces", "--space", "space")
        content = read_yaml(path)
        return cls.from_dict(published_space(content, str(path)) or content, str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "search space") -> SearchSpace:
        """Read the form that `to_dict` writes.

        Args:
            content: mapping with the keys `name`, `choices` (with `embed_dim`, `depth`, `num_heads`,
                `mlp_ratio`), `model` and `architectures`; the last two may be left out.
            source: the file that error messages name.

        Raises:
            ConfigError: an unknown or missing key, an empty list, a value of a wrong kind or twice in a list.
        """
        top = ("name", "choices", "model", "architectures")
        if unknown := [str(key) for key in content if key not in top]:
            raise ConfigError(f"{source}: unknown key '{unknown[0]}'; a search space has {', '.join(top)}.")
        choices = _mapping(content, "choices", source)
        if unknown := [str(key) for key in choices if key not in KEYS]:
            raise ConfigError(f"{source}: unknown key 'choices.{unknown[0]}'; choices has {', '.join(KEYS)}.")
        lists = {key: _choices(choices, key, source) for key in KEYS}
        if int(min(lists["embed_dim"]) * min(lists["mlp_ratio"])) < 1:
            raise ConfigError(f"{source}: the smallest embed_dim times the smallest mlp_ratio is below 1.")
        model = ModelConfig.from_dict(_mapping(content, "model", source, {}), f"{source}: model")
        named = {
            str(key): Architecture.from_dict(value, f"{source}: architectures.{key}")
            for key, value in _mapping(content, "architectures", source, {}).items()
        }
        name = content.get("name", Path(source).stem)
        plain = isinstance(name, (str, int, float)) and not isinstance(name, bool)
        if not plain or not 0 < len(str(name)) <= LONGEST_NAME or not str(name).isprintable():
            raise ConfigError(
                f"{source}: name is {shown(repr(name))}; it should be a text of one line, up to "
                f"{LONGEST_NAME} characters."
            )
        try:
            return cls(str(name), **lists, model=model, architectures=named)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None

    @classmethod
    def around(cls, architecture: Architecture, model: ModelConfig, name: str) -> SearchSpace:
        """A space whose largest subnet has a network's sizes; of these the others have half or more, and
        three quarters of the layers.

        Args:
            architecture: sizes of the network; where its layers differ, the largest of them count.
            model: the network around them.
            name: name of the space.
        """
        widest, longest, most = architecture.embed_dim, architecture.depth, max(architecture.num_heads)
        ratio = max(architecture.mlp_ratio)
        step = 8 if widest % 8 == 0 else 1
        return cls(
            name,
            tuple(sorted({max(1, widest * share // (8 * step) * step) for share in range(4, 8)} | {widest})),
            tuple(range(max(1, longest - max(1, longest // 4)), longest + 1)),
            tuple(range((most + 1) // 2, most + 1)),
            tuple(sorted({round(ratio * share / 8, 4) for share in range(4, 8)} | {ratio})),
            model,
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and YAML; `from_dict` gives an equal space back."""
        return {
            "name": self.name,
            "choices": {key: list(getattr(self, key)) for key in KEYS},
            "model": self.model.to_dict(),
            "architectures": {name: entry.to_dict() for name, entry in self.architectures.items()},
        }

    def to_yaml(self, path: str | Path) -> None:
        """Write as a YAML file that `load` reads atomically."""
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None))

    def to_nni(self) -> dict[str, dict[str, Any]]:
        """As NNI's HPO experiments and nnictl want it (`search_space.json`): a choice per label.

        Values of layers beyond a trial's depth take no part in its network.
        """
        choices: dict[str, tuple] = {"embed_dim": self.embed_dim, "depth": self.depth}
        for i in range(self.max_depth):
            choices[f"num_head_{i}"] = self.num_heads
            choices[f"mlp_ratio_{i}"] = self.mlp_ratio
        return {label: {"_type": "choice", "_value": list(values)} for label, values in choices.items()}

    def with_model(self, **changes: Any) -> SearchSpace:
        """The same choices around another network, for instance with another number of classes."""
        return replace(self, model=replace(self.model, **changes))

    def differences(self, other: SearchSpace) -> list[str]:
        """What differs from another space, one phrase each; names and named architectures do not count."""
        mine, theirs = (
            {f"choices.{key}": list(getattr(space, key)) for key in KEYS}
            | {f"model.{key}": value for key, value in space.model.values().items()}
            for space in (self, other)
        )
        return [
            f"{key} is {mine[key]} here and {theirs[key]} there" for key in mine if mine[key] != theirs[key]
        ]

    # Its architectures

    @property
    def max_depth(self) -> int:
        """Layers of the deepest subnet, so of the supernet."""
        return self.depth[-1]

    @property
    def size(self) -> int:
        """How many different subnets the space holds."""
        per_layer = len(self.num_heads) * len(self.mlp_ratio)
        return len(self.embed_dim) * sum(per_layer**depth for depth in self.depth)

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and not self._misfit(architecture)

    def _misfit(self, architecture: Architecture) -> str:
        wanted = {
            "embed_dim": (architecture.embed_dim,),
            "depth": (architecture.depth,),
            "num_heads": architecture.num_heads,
            "mlp_ratio": architecture.mlp_ratio,
        }
        for key, values in wanted.items():
            for value in values:
                if value not in getattr(self, key):
                    return f"{key} {value} is not among {list(getattr(self, key))}"
        return ""

    def require(self, architecture: Architecture, source: str = "the architecture") -> Architecture:
        """Give the architecture back if the space holds it.

        Raises:
            ConfigError: it does not; the sentence names the first choice that is not in the space.
        """
        if misfit := self._misfit(architecture):
            raise ConfigError(f"{source} is not in the space '{self.name}': {misfit}.")
        return architecture

    def __iter__(self) -> Iterator[Architecture]:
        """All architectures, shallow before deep, small choices before large ones."""
        for depth in self.depth:
            for embed_dim in self.embed_dim:
                for num_heads in product(self.num_heads, repeat=depth):
                    for mlp_ratio in product(self.mlp_ratio, repeat=depth):
                        yield Architecture(embed_dim, num_heads, mlp_ratio)

    def sample(self, rng: random.Random) -> Architecture:
        """One architecture at random, drawn in the published order: depth, then a ratio per layer, then a
        head count per layer, then the embedding size. A seed gives the same draws as the published code.
        """
        depth = rng.choice(self.depth)
        mlp_ratio = tuple(rng.choice(self.mlp_ratio) for _ in range(depth))
        num_heads = tuple(rng.choice(self.num_heads) for _ in range(depth))
        return Architecture(rng.choice(self.embed_dim), num_heads, mlp_ratio)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """All architectures one decision away: another embedding size, another head count or ratio in one
        layer, or the next smaller or larger depth (the last layers cut, or every choice for the new ones).

        The relation is symmetric.

        Raises:
            ConfigError: the architecture is not in the space.
        """
        self.require(architecture)
        heads, ratios = architecture.num_heads, architecture.mlp_ratio
        for embed_dim in self.embed_dim:
            if embed_dim != architecture.embed_dim:
                yield replace(architecture, embed_dim=embed_dim)
        for i in range(architecture.depth):
            for count in self.num_heads:
                if count != heads[i]:
                    yield replace(architecture, num_heads=(*heads[:i], count, *heads[i + 1 :]))
            for ratio in self.mlp_ratio:
                if ratio != ratios[i]:
                    yield replace(architecture, mlp_ratio=(*ratios[:i], ratio, *ratios[i + 1 :]))
        position = self.depth.index(architecture.depth)
        if position > 0:
            shorter = self.depth[position - 1]
            yield replace(architecture, num_heads=heads[:shorter], mlp_ratio=ratios[:shorter])
        if position + 1 < len(self.depth):
            extra = self.depth[position + 1] - architecture.depth
            for more_heads in product(self.num_heads, repeat=extra):
                for more_ratios in product(self.mlp_ratio, repeat=extra):
                    yield replace(architecture, num_heads=heads + more_heads, mlp_ratio=ratios + more_ratios)

    def _uniform(self, pick: Any) -> Architecture:
        depth = pick(self.depth)
        return Architecture(
            pick(self.embed_dim), (pick(self.num_heads),) * depth, (pick(self.mlp_ratio),) * depth
        )

    @property
    def smallest(self) -> Architecture:
        """The architecture with the fewest parameters and operations."""
        return self._uniform(lambda values: values[0])

    @property
    def middle(self) -> Architecture:
        """The middle choice everywhere (the larger of two)."""
        return self._uniform(lambda values: values[len(values) // 2])

    @property
    def largest(self) -> Architecture:
        """The whole supernet."""
        return self._uniform(lambda values: values[-1])

    def named(self) -> dict[str, Architecture]:
        """The subnets that training reports: the smallest, the largest, and the space's own named ones or,
        where it has none, the middle one.
        """
        between = dict(self.architectures) or {"middle": self.middle}
        return {"smallest": self.smallest, **between, "largest": self.largest}

    def architecture(self, name_or_path: Architecture | str | Path) -> Architecture:
        """A subnet by its name ('smallest', 'middle', 'largest' or one of the space's own), or from a YAML
        file; an architecture is given back if the space holds it.

        Raises:
            ConfigError: there is no such name or file, or the architecture is not in the space.
        """
        if isinstance(name_or_path, Architecture):
            return self.require(name_or_path)
        names = {"middle": self.middle, **self.named()}
        if str(name_or_path) in names:
            return names[str(name_or_path)]
        path = Path(name_or_path)
        if not path.suffix and not path.exists():
            raise ConfigError(
                f"the space '{self.name}' has no architecture '{path}' (it has {', '.join(names)}), "
                "and there is no such file."
            )
        return self.require(Architecture.from_yaml(path), f"{path}: the architecture")


def packaged_spaces() -> list[str]:
    """The names of the spaces that come with the package."""
    return packaged_names("search_spaces")


def _mapping(content: Mapping, key: str, source: str, default: dict | None = None) -> dict:
    value = content.get(key, default)
    if value is None:
        raise ConfigError(f"{source}: the key '{key}' is missing.")
    if not isinstance(value, Mapping):
        raise ConfigError(f"{source}: {key} should hold keys with values.")
    return dict(value)


def _choices(choices: Mapping, key: str, source: str) -> tuple:
    where = f"{source}: choices.{key}"
    if key not in choices:
        raise ConfigError(f"{source}: the key 'choices.{key}' is missing.")
    values = choices[key]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where} is {shown(repr(values))}; it should be a list with at least one number.")
    whole, most = key != "mlp_ratio", LARGEST[key]
    for value in values:
        fits = is_integer(value) and value >= 1 if whole else is_number(value) and value > 0
        if not fits or value > most:
            kind = f"a {'whole ' if whole else ''}number above 0, up to {most:,}"
            raise ConfigError(f"{where} holds {shown(repr(value))}; each entry should be {kind}.")
    ordered = sorted(int(value) if whole else float(value) for value in values)
    if twice := [value for value, after in pairwise(ordered) if value == after]:
        raise ConfigError(f"{where} holds {twice[0]:g} twice.")
    return tuple(ordered)
