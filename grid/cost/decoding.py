"""Time and disk space that decoded copies of pictures take, if they are not there yet."""

from __future__ import annotations

from pathlib import Path

from cnncore.data import DecodingNeed, decoding_need
from cnncore.processors import machine_cpus
from grid.phrases import counted, format_bytes, format_s
from grid.plan.plan import Plan


def decoding_notes(plan: Plan, data_dir: Path) -> list[str]:
    """Return a note on every decoded copy that the plan needs and that is not there.

    A few of its pictures are decoded to measure the time. Raises `DataError`.
    """
    notes = []
    for (name, image_size, resize, background), facts in plan.resolver.copies().items():
        if name in plan.absent_data:
            continue
        need = decoding_need(
            name,
            data_dir,
            image_size,
            facts.fingerprint,
            skip_unreadable=plan.skip_unreadable,
            resize=resize,
            background=background,
        )
        if need:
            notes.append(f"decoding {name}: {_described(need)}")
    return notes


def _described(need: DecodingNeed) -> str:
    """Describe a copy: `20,000 pictures once per node, 234.4 MiB at 64x64 pixels, about 12 s`."""
    copy = (
        f"{counted(need.pictures, 'picture')} once per node, {format_bytes(need.size)} at "
        f"{need.side}x{need.side} pixels"
    )
    if not need.new:
        return f"{copy}; all of them were decoded before"
    are = "is" if need.new == 1 else "are"
    others = f"; {need.new:,} of them {are} new" if need.new < need.pictures else ""
    time_s = f"about {format_s(need.time_s)}" if need.time_s >= 1 else "less than a second"
    return (
        f"{copy}{others}; {time_s} on {counted(machine_cpus(), 'core')} "
        f"(measured here on {need.measured:,})"
    )
