"""The network of a config: its name, options, image side and weights, checked for the plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnncore.catalog import NETWORKS, check_network, library_of
from cnncore.config import NETWORK_KEYS, TrialConfig
from cnncore.error_text import error_line
from cnncore.models.pretrained_source import IMAGENET, WeightsError, check_imagenet, fingerprint
from grid.plan.config_problem import ConfigProblem
from grid.sweep.yaml_source import KeyPath


class NetworkChecks:
    """Checks of networks; files of weights are read once each."""

    def __init__(self, key_path: Callable[..., KeyPath]) -> None:
        self._key_path = key_path
        self._fitting: dict[str, str] = {}

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
        if config.pretrained != IMAGENET or library_of(config.arch):
            return config.model_copy(update=self._weights(config, options))
        if problem := check_imagenet(config.arch, options):
            raise ConfigProblem(self._key_path("pretrained", "arch"), problem)
        return config

    def _check_library(self, config: TrialConfig, options: dict[str, Any]) -> None:
        """Check the name, options and image side of a library's network. Raises `ConfigProblem`."""
        # Only the library knows them, and it loads torch.
        from cnncore.models.libraries.check import check_library_network
        from cnncore.models.libraries.names import split_name

        assert config.image_size is not None
        if problem := check_library_network(config.arch, config.image_size, options):
            words = set(problem.replace(",", " ").replace(":", " ").split())
            keys = [key for key in NETWORK_KEYS if key in words]
            if words & (config.arch_options or {}).keys():
                keys.append("arch_options")
            if "pixels" in words or "pixels;" in words:
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
