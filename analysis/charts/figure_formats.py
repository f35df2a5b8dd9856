"""A figure's file formats: SVG, PNG, PDF, and HTML that needs no network."""

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
    """The figure as PNG, two pixels to a point."""
    content: bytes = vl_convert.vegalite_to_png(spec, vl_version=vega_lite(spec), scale=2)
    return content


def to_pdf(spec: Spec) -> bytes:
    """The figure as PDF."""
    content: bytes = vl_convert.vegalite_to_pdf(spec, vl_version=vega_lite(spec))
    return content


def to_page(spec: Spec) -> bytes:
    """The figure as an HTML page that needs no network."""
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
    """A specification as JSON that cannot end the script element it stands in."""
    return json.dumps(spec).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; made once a version (1.2 s), then kept."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    kept = Path(home) / "cnngrid" / f"vega-{version('vl-convert-python')}-{VEGA_LITE}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    text = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]  # its stub is wrong
    text = text.replace("</script", "<\\/script")
    with contextlib.suppress(OSError):  # a page is made all the same where nothing can be kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False) as file:
            file.write(text)
        os.replace(file.name, kept)
    return text
