"""Names of torchvision's and timm's networks and of their published weights.

`timm:resnet18.a1_in1k` names the network and, by their tag in timm, the weights;
`torchvision:resnet50.IMAGENET1K_V2` by their name in torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from cnncore.spelling import as_written, closest_hint


@dataclass(frozen=True)
class LibraryName:
    """Library, network and tag of the weights (empty if none is named)."""

    library: str
    network: str
    tag: str

    @property
    def full(self) -> str:
        """The network with its tag, as timm writes both."""
        return f"{self.network}.{self.tag}" if self.tag else self.network


def split_name(arch: str) -> LibraryName:
    """Split `timm:resnet18.a1_in1k` into its parts."""
    library, _, full = arch.partition(":")
    network, _, tag = full.partition(".")
    return LibraryName(library, network, tag)


@cache
def known_networks(library: str) -> tuple[str, ...]:
    """Return the names of a library's networks for classification, sorted."""
    if library == "timm":
        import timm

        return tuple(sorted(timm.list_models()))
    import torchvision

    return tuple(sorted(torchvision.models.list_models(module=torchvision.models)))


@cache
def known_tags(library: str, network: str) -> tuple[str, ...]:
    """Return the names of a network's published weights, the default first."""
    if library == "timm":
        from timm.models import get_arch_pretrained_cfgs

        found = get_arch_pretrained_cfgs(network).items()
        return tuple(
            name.partition(".")[2] for name, about in found if about.has_weights and "." in name
        )
    from torchvision.models import get_model_weights

    # The same version of the weights as for the networks of the catalog comes first.
    return tuple(sorted((w.name for w in get_model_weights(network)), key=_version_order))


def _version_order(tag: str) -> tuple[bool, str]:
    return tag != "IMAGENET1K_V1", tag


def design_side(library: str, network: str) -> int:
    """Return the image side, in pixels, that a network was designed for."""
    if library == "timm":
        return int(timm_facts(network).input_size[-1])
    from torchvision.models import get_model_weights

    network, _, tag = network.partition(".")
    tag = tag or known_tags(library, network)[0]
    return int(get_model_weights(network)[tag].transforms.keywords["crop_size"])


def check_name(arch: str) -> str | None:
    """Return the problem with a library's network by its name, or None."""
    name = split_name(arch)
    known = known_networks(name.library)
    if name.network not in known:
        return _unknown_network(name, known)
    if arch.endswith("."):
        return f"{arch} ends in a dot without the name of weights; write {arch.rstrip('.')}"
    tags = known_tags(name.library, name.network)
    if name.tag and name.tag not in tags:
        hint = closest_hint(name.tag, tags, cutoff=0.4)
        return (
            f"{name.library}:{name.network} has no weights {as_written(name.tag)}{hint}; it has "
            f"{', '.join(tags) or 'none'}"
        )
    return None


def _unknown_network(name: LibraryName, known: tuple[str, ...]) -> str:
    """Return a message with the closest name of the library."""
    if name.library == "timm":
        from timm.models import get_deprecated_models

        new = get_deprecated_models().get(name.full) or get_deprecated_models().get(name.network)
        if new:
            return f"timm has renamed {name.full}: write timm:{new}"
    closest = closest_hint(name.network, known)
    return (
        f"unknown network {as_written(name.network)} of {name.library}{closest}; "
        f"`cnngrid archs '{name.library}:*'` lists its {len(known)}; a module of your own needs "
        f"another name than {name.library}"
    )


def timm_facts(full_name: str) -> Any:
    """Return timm's record of a known network: image side, classes, places of its weights."""
    import timm

    return timm.get_pretrained_cfg(full_name)
