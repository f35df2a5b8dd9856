"""Networks by name: `build_model`."""

from cnncore.models.builder import build_model

__all__ = ["build_model"]
