"""The analyses of `cnngrid explain`, from a trial to a figure or a table."""

from __future__ import annotations

from typing import Any

from PIL.Image import Image

from analysis.tables.table_formats import Column, Table
from cnncore.explain.enhancement import Enhancement, study_enhancement
from cnncore.explain.feature_maps import feature_map_grid
from cnncore.explain.receptive_field import receptive_fields
from cnncore.explain.samples import prediction_grid, sample_grid
from cnncore.explain.separable_cost import separable_blocks
from grid.explain.opened_trial import Subject
from grid.explain.registry import Options
from grid.store.folder import now

# How many images, rows or maps a figure shows unless --count says otherwise.
SAMPLES, PREDICTIONS, MAPS, ATTRIBUTED = 10, 40, 25, 4


def samples(subject: Subject, options: Options) -> Image:
    """Validation images by class; needs no network."""
    title = f"{subject.config.dataset}: validation images by class"
    splits = subject.splits
    return sample_grid(splits.val, splits.class_names, options.count or SAMPLES, title)


def predictions(subject: Subject, options: Options) -> Image:
    """Test images with what the network makes of them."""
    return _predictions(subject, options, errors=False)


def errors(subject: Subject, options: Options) -> Image:
    """The same of the surest errors."""
    return _predictions(subject, options, errors=True)


def _predictions(subject: Subject, options: Options, *, errors: bool) -> Image:
    return prediction_grid(
        subject.trained(),
        subject.splits.test,
        subject.splits.class_names,
        options.count or PREDICTIONS,
        precision=subject.config.precision,
        device=subject.device,
        errors=errors,
        about=subject.about,
    )


def feature_maps(subject: Subject, options: Options) -> Image:
    """A layer's maps of one test image."""
    test = subject.splits.test
    place = _place(subject, options)
    raw = test.raw([place])
    about = f"{subject.about}, test image {place}"
    return feature_map_grid(
        subject.trained(), raw[0], test.inputs(raw), options.layer, options.count or MAPS, about
    )


def attributions(subject: Subject, options: Options) -> Image:
    """Attributions of test images from one place on, each beside the same for fresh weights."""
    # Captum loads matplotlib, which takes seconds; the other analyses do without.
    from cnncore.explain import attributions as attributed

    test, names = subject.splits.test, subject.splits.class_names
    first = _place(subject, options)
    trained, fresh = subject.trained(), subject.fresh()
    images = []
    for place in range(first, min(first + (options.count or ATTRIBUTED), len(test))):
        raw = test.raw([place])
        inputs = test.inputs(raw)
        target = attributed.predicted_class(trained, inputs)
        found = attributed.attribute(trained, fresh, inputs, target, subject.seed)
        lines = f"{place}: {names[test.labels[place]]}", f"predicted {names[target]}"
        images.append((raw[0].numpy(), lines, found))
    return attributed.attribution_grid(images, subject.about)


def receptive_field(subject: Subject, options: Options) -> Table:
    """A row per convolution and pooling layer; needs no weights."""
    found = receptive_fields(subject.fresh(), subject.image_size)
    columns = [
        Column("layer", "layer"),
        Column("type", "type"),
        *(
            Column(name, title, "number")
            for name, title in (
                ("kernel", "kernel"),
                ("stride", "stride"),
                ("padding", "padding"),
                ("output", "map"),
                ("receptive_field_px", "receptive field (px)"),
                ("jump_px", "jump (px)"),
            )
        ),
    ]
    return Table(
        f"Receptive fields of {subject.config.arch} at {subject.image_size} pixels",
        "In order of execution; heights x widths where they differ. The field counts pixels of "
        "the padding; branches that join count with the largest.",
        columns,
        [
            (
                one.name,
                one.type,
                _sides(one.kernel),
                _sides(one.stride),
                _sides(one.padding),
                _sides(one.output),
                _sides(one.field),
                _sides(one.jump),
            )
            for one in found
        ],
    )


def _sides(pair: tuple[int, int]) -> int | str:
    height, width = pair
    return height if height == width else f"{height}x{width}"


def separable_cost(subject: Subject, options: Options) -> Table:
    """A row per depthwise-separable block; needs no weights."""
    blocks = separable_blocks(subject.fresh(), subject.image_size)
    columns = [
        Column("depthwise", "depthwise"),
        Column("pointwise", "pointwise"),
        Column("channels_in", "M", "count"),
        Column("channels_out", "N", "count"),
        Column("kernel", "DK", "number"),
        Column("output", "map", "number"),
        Column("separable_macs", "separable MACs", "quantity"),
        Column("standard_macs", "standard MACs", "quantity"),
        Column("counted", "counted (%)", "percent"),
        Column("theory", "1/N + 1/DK² (%)", "percent"),
    ]
    separable = sum(block.separable_macs for block in blocks)
    standard = sum(block.standard_macs for block in blocks)
    return Table(
        f"Depthwise-separable blocks of {subject.config.arch} at {subject.image_size} pixels",
        "Counted: the block's multiply-accumulates as a share of a standard convolution's in its "
        f"place. All blocks: {separable / standard:.2%}, {standard / separable:.1f} times fewer.",
        columns,
        [
            (
                block.depthwise,
                block.pointwise,
                block.channels_in,
                block.channels_out,
                _sides(block.kernel),
                _sides(block.output),
                block.separable_macs,
                block.standard_macs,
                block.counted,
                block.theory,
            )
            for block in blocks
        ],
    )


def enhancement(subject: Subject, options: Options) -> Table:
    """Measure the enhancements, store every row, and show the test split's."""
    found = study_enhancement(
        subject.trained(),
        subject.splits.val,
        subject.splits.test,
        precision=subject.config.precision,
        device=subject.device,
        seed=subject.seed,
    )
    made_at = now()
    rows = [{**_enhancement_row(one, subject.trial_id), "made_at": made_at} for one in found]
    subject.store.write("enhancement", subject.trial_id, rows)
    columns = [
        Column("transform", "transform"),
        *(Column(name, name, "number") for name in ("brightness", "contrast", "sharpness")),
        Column("wrong_before", "wrong before", "count"),
        Column("repaired", "repaired", "count"),
        Column("broken", "broken", "count"),
        Column("net_change", "net change", "count"),
        Column("top1_before", "top-1 before (%)", "percent"),
        Column("top1_after", "top-1 after (%)", "percent"),
        Column("repaired_share", "errors repaired (%)", "percent"),
        Column("random_repaired", "noise: repaired", "count"),
        Column("random_broken", "noise: broken", "count"),
        Column("random_top1_after", "noise: top-1 (%)", "percent"),
    ]
    path = subject.store.table_path("enhancement", subject.trial_id)
    return Table(
        f"Enhancement of the {found[-1].effect.images:,} test images, {subject.about}",
        "Factors chosen on validation images. Noise: Gaussian, of the same norm on every image. "
        f"Stored in {path}.",
        columns,
        [
            tuple(row.get(column.name) for column in columns)
            for row in rows
            if row["split"] == "test"
        ],
    )


def _enhancement_row(one: Enhancement, trial_id: str) -> dict[str, Any]:
    """A row of the table `enhancement`, but for its time."""
    effect, random = one.effect, one.random
    row = {
        "trial_id": trial_id,
        "split": one.split,
        "transform": one.transform,
        **one.factors,
        "chosen": one.chosen,
        "images": effect.images,
        "wrong_before": effect.wrong_before,
        "repaired": effect.repaired,
        "broken": effect.broken,
        "net_change": effect.net_change,
        "top1_before": effect.top1_before,
        "top1_after": effect.top1_after,
        "repaired_share": effect.repaired_share,
        "l2_norm": effect.l2_norm,
    }
    if random is not None:
        row |= {
            "random_repaired": random.repaired,
            "random_broken": random.broken,
            "random_net_change": random.net_change,
            "random_top1_after": random.top1_after,
            "random_l2_norm": random.l2_norm,
        }
    return row


def _place(subject: Subject, options: Options) -> int:
    """The test image that --image names. Raises `ValueError` where there is none."""
    place, count = options.image or 0, len(subject.splits.test)
    if place >= count:
        raise ValueError(f"--image {place}: there are {count} test images, 0 to {count - 1}")
    return place
