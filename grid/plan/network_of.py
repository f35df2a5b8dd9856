"""The network of a config: its name, options, image side and weights, checked for the plan."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnncore.catalog import NETWORKS, check_network, library_of
from cnncore.config import NETWORK_KEYS, MeanStd, TrialConfig
from cnncore.error_text import error_line
from cnncore.models.pretrained_source import IMAGENET, WeightsError, check_imagenet, fingerprint
from grid.plan.config_problem import ConfigProblem
from grid.sweep.yaml_source import KeyPath

# Mean and std of the channels that names of `normalize` stand for; those of `dataset` are its own.
NAMED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
# timm's names for keys of cnngrid.
TIMM_OPTIONS = {"dropout": "drop_rate"}


class NetworkChecks:
    """Checks of networks; files of weights are read once each."""

    def __init__(self, key_path: Callable[..., KeyPath]) -> None:
        self._key_path = key_path
        self._fitting: dict[str, str] = {}
        # Remarks on what is allowed and most often a mistake, each once.
        self.remarks: dict[str, None] = {}

    def checked(self, config: TrialConfig) -> TrialConfig:
        """Return a config with the file of its weights; check that the network can be built.

        Raises `ConfigProblem`.
        """
        assert config.image_size is not None
        options = {key: getattr(config, key) for key in NETWORK_KEYS}
        options.update(config.arch_options or {})
        if problem := check_network(config.arch, config.image_size, options):
            known = NETWORKS[config.arch].options if config.arch in NETWORKS else ()
            refused = [key for key in NETWORK_KEYS if options[key] is not None and key not in known]
            for name in set(config.arch_options or {}) - {*known}:
                refused += [f"arch_options.{name}", "arch_options"]
            keys = (
                tuple(refused) or ("image_size", "arch") if config.arch in NETWORKS else ("arch",)
            )
            raise ConfigProblem(self._key_path(*keys), problem)
        if library_of(config.arch):
            self._check_library(config, options)
        if config.pretrained is None:
            return config
        if config.pretrained != IMAGENET:
            return config.model_copy(update=self._weights(config, options))
        if library_of(config.arch):
            config = config.model_copy(update=self._weights(config, options))
        elif problem := check_imagenet(config.arch, options):
            raise ConfigProblem(self._key_path("pretrained", "arch"), problem)
        self._note_normalization(config)
        return config

    def _note_normalization(self, config: TrialConfig) -> None:
        """Note a `normalize` that is not the one that published weights were trained with."""
        expected: Any = NAMED["imagenet"]
        if library_of(config.arch):
            from cnncore.models.libraries.published import published_normalization

            expected = published_normalization(config.arch)
        given = config.normalize
        own = (given.mean, given.std) if isinstance(given, MeanStd) else NAMED.get(given)
        if expected is None or (own is not None and _close(own, expected)):
            return
        name = next((name for name, known in NAMED.items() if _close(known, expected)), None)
        mean, std = (f"[{', '.join(f'{x:g}' for x in values)}]" for values in expected)
        said = given if isinstance(given, str) else "another"
        self.remarks[
            f"normalize: the weights of {config.arch} were trained on images with the mean {mean} "
            f"and the std {std}, but it is {said}: set `normalize: "
            + (f"{name}`" if name else f"{{mean: {mean}, std: {std}}}`")
        ] = None

    def _check_library(self, config: TrialConfig, options: dict[str, Any]) -> None:
        """Check the name, options and image side of a library's network. Raises `ConfigProblem`."""
        # Only the library knows them, and it loads torch.
        from cnncore.models.libraries.check import check_library_network
        from cnncore.models.libraries.names import split_name

        assert config.image_size is not None
        if problem := check_library_network(config.arch, config.image_size, options):
            words = set(re.sub("[,:;]", " ", problem).split())
            keys = [key for key in NETWORK_KEYS if key in words and options.get(key) is not None]
            if "does not take" in problem and keys and not (config.arch_options or {}).get(keys[0]):
                problem += self._remedy(config, keys[0])
            if words & (config.arch_options or {}).keys():
                keys.append("arch_options")
            if "pixels" in words:
                keys.append("image_size")
            raise ConfigProblem(self._key_path(*keys, "arch"), problem)
        tag = split_name(config.arch).tag
        if tag and config.pretrained != IMAGENET:
            has = "the path of a file" if config.pretrained else "null"
            raise ConfigProblem(
                self._key_path("arch"),
                f"{config.arch}: {tag} names published weights, but pretrained is {has}: set "
                f"`pretrained: {IMAGENET}`, or leave .{tag} out",
            )

    def _remedy(self, config: TrialConfig, key: str) -> str:
        """Return how a network of a library goes with a key that others of the sweep take."""
        section = next(iter(self._key_path(key)), "")
        if section == "compare":
            return f"; `exclude` it for this network, with {key} other than null"
        instead = ""
        if key in TIMM_OPTIONS and library_of(config.arch) == "timm":
            instead = f", arch_options: {{{TIMM_OPTIONS[key]}: {getattr(config, key)}}}"
        rule = f'{{when: {{arch: "{config.arch}"}}, set: {{{key}: null{instead}}}}}'
        return f"; for this network alone, give a rule under `rules`: {rule}"

    def _weights(self, config: TrialConfig, options: dict[str, Any]) -> dict[str, str]:
        """Return the weights' fingerprint, and a file's absolute path; they must fit the network.

        Published weights of a library's network must lie in the library's cache.
        """
        published = config.pretrained == IMAGENET
        path = str(Path(str(config.pretrained)).expanduser().absolute())
        key = json.dumps([path, config.arch, config.image_size, options])
        try:
            if key not in self._fitting:
                # Shapes need torch, which planning loads for nothing else.
                if published:
                    from cnncore.models.libraries.published import published_file

                    path = str(published_file(config.arch))
                value = fingerprint(path)
                from cnncore.models.pretrained import check_fit

                assert config.image_size is not None
                check_fit(config.arch, config.image_size, options, path, published=published)
                self._fitting[key] = value
        except (WeightsError, ValueError) as error:
            raise ConfigProblem(self._key_path("pretrained", "arch"), str(error)) from None
        except (Exception, SystemExit) as error:  # the user's own network may raise anything
            text = f"{config.arch}: {error_line(error)}"
            raise ConfigProblem(self._key_path("arch"), text) from None
        found = {"pretrained_fingerprint": self._fitting[key]}
        return found if published else {"pretrained": path, **found}


def _close(one: Any, other: Any) -> bool:
    """Compare two means with stds, to less than a grey level of 255."""
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=False)]
    return all(abs(a - b) < 1 / 255 for a, b in pairs)
