"""File formats of figures: SVG, PNG, PDF, and HTML that needs no network."""

from __future__ import annotations

import contextlib
import html
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import altair as alt
import vl_convert

from analysis.charts.svg import to_svg, vega_lite

Spec = dict[str, Any]

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def _svg(spec: Spec) -> bytes:
    return to_svg(spec).encode()


def to_png(spec: Spec) -> bytes:
    """Return the figure as PNG, two pixels to a point."""
    content: bytes = vl_convert.vegalite_to_png(spec, vl_version=vega_lite(spec), scale=2)
    return content


def to_pdf(spec: Spec) -> bytes:
    """Return the figure as PDF."""
    content: bytes = vl_convert.vegalite_to_pdf(spec, vl_version=vega_lite(spec))
    return content


def to_page(spec: Spec) -> bytes:
    """Return the figure as an HTML page that needs no network."""
    title = spec.get("title", "figure")
    text = title.get("text", "figure") if isinstance(title, dict) else title
    page = Template((Path(__file__).parent / "figure.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(str(text)), script=script(), spec=embedded(spec)
    ).encode()


FILE_FORMATS: dict[str, Callable[[Spec], bytes]] = {
    ".svg": _svg,
    ".png": to_png,
    ".pdf": to_pdf,
    ".html": to_page,
}


def embedded(spec: Spec) -> str:
    """Return a specification as JSON that cannot close its script element."""
    return json.dumps(spec).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script; bundled once (1.2 s), then cached."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    cached = Path(cache) / "cnngrid" / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    with contextlib.suppress(OSError):
        return cached.read_text(encoding="utf-8")
    text = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]  # its stub is wrong
    text = text.replace("</script", "<\\/script")
    with contextlib.suppress(OSError):  # without a cache the page is made all the same
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=cached.parent, delete=False) as file:
            file.write(text.encode())
        os.replace(file.name, cached)
    return text
