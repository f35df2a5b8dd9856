"""Networks by name: `build_model`.

The import loads no torch; `build_model` loads it at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncore.models.builder import build_model

__all__ = ["build_model"]


def __getattr__(name: str) -> Any:
    if name == "build_model":
        from cnncore.models.builder import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
