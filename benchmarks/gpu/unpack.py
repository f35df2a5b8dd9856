"""CIFAR-10 from its packed copies: all batches that are present, each checked by its MD5.

python3 benchmarks/gpu/unpack.py PACKED TARGET
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path


def main() -> None:
    """Write TARGET/cifar-10-batches-py with the program `expand` that lies in PACKED."""
    packed, target = Path(sys.argv[1]), Path(sys.argv[2])
    loader = SourceFileLoader("expand", str(packed / "expand"))
    spec = spec_from_loader("expand", loader)
    assert spec is not None
    expand = module_from_spec(spec)
    loader.exec_module(expand)
    manifest = json.loads((packed / "manifest.json").read_text())
    wanted = {
        name: md5
        for name, md5 in manifest["expanded_md5"]["cifar-10-batches-py"].items()
        if name == "batches.meta" or (packed / "cifar-10" / f"{name}.tar").exists()
    }
    expand.cifar(packed / "cifar-10", target / "cifar-10-batches-py", wanted)


if __name__ == "__main__":
    main()
