"""The analyses of `cnngrid explain`; each makes a figure or a table of a trial."""

from __future__ import annotations

from typing import Any

from PIL.Image import Image

from analysis.tables.table_formats import Column, Table
from cnncore.explain.enhancement_effect import Enhancement, study_enhancement
from cnncore.explain.feature_maps import feature_map_grid
from cnncore.explain.receptive_field import receptive_fields
from cnncore.explain.samples import prediction_grid, sample_grid
from cnncore.explain.separable_cost import separable_blocks
from grid.explain.opened_trial import OpenedTrial
from grid.explain.registry import Options
from grid.store.folder import now

# Default numbers of images, rows or maps in a figure; --count replaces them.
SAMPLES, PREDICTIONS, MAPS, ATTRIBUTED = 10, 40, 25, 4


def samples(trial: OpenedTrial, options: Options) -> Image:
    """Draw validation images by class; needs no network."""
    title = f"{trial.config.dataset}: validation images by class"
    splits = trial.splits
    _check_validation(trial, "samples shows validation images")
    return sample_grid(splits.val, splits.class_names, options.count or SAMPLES, title)


def predictions(trial: OpenedTrial, options: Options) -> Image:
    """Draw test images with the network's predictions."""
    return _predictions(trial, options, errors=False)


def errors(trial: OpenedTrial, options: Options) -> Image:
    """Draw misclassified test images with the predictions, the most confident first."""
    return _predictions(trial, options, errors=True)


def _predictions(trial: OpenedTrial, options: Options, *, errors: bool) -> Image:
    return prediction_grid(
        trial.trained(),
        trial.splits.test,
        trial.splits.class_names,
        options.count or PREDICTIONS,
        precision=trial.config.precision,
        device=trial.device,
        errors=errors,
        about=trial.about,
    )


def feature_maps(trial: OpenedTrial, options: Options) -> Image:
    """Draw the feature maps of a layer for one test image."""
    test = trial.splits.test
    index = _image_index(trial, options)
    raw = test.raw([index])
    about = f"{trial.about}, test image {index}"
    return feature_map_grid(
        trial.trained(),
        test.seen(raw)[0],
        test.inputs(raw),
        options.layer,
        options.count or MAPS,
        about,
    )


def attributions(trial: OpenedTrial, options: Options) -> Image:
    """Draw attributions of successive test images, beside those of a network with fresh weights."""
    # Captum loads matplotlib, which takes seconds; the other analyses do without.
    from cnncore.explain import attributions as methods

    test, names = trial.splits.test, trial.splits.class_names
    first = _image_index(trial, options)
    trained, fresh = trial.trained(), trial.fresh()
    images = []
    for index in range(first, min(first + (options.count or ATTRIBUTED), len(test))):
        raw = test.raw([index])
        inputs = test.inputs(raw)
        target = methods.predicted_class(trained, inputs)
        attribution = methods.attribute(trained, fresh, inputs, target, trial.seed)
        lines = f"{index}: {names[test.labels[index]]}", f"predicted {names[target]}"
        images.append((test.seen(raw)[0].numpy(), lines, attribution))
    return methods.attribution_grid(images, trial.about)


def receptive_field(trial: OpenedTrial, options: Options) -> Table:
    """Return a table with a row per convolution and pooling layer; needs no weights."""
    fields = receptive_fields(trial.fresh(), trial.image_size)
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
        f"Receptive fields of {trial.config.arch} at {trial.image_size} pixels",
        "In order of execution; heights x widths where they differ. The field counts pixels of "
        "the padding; branches that join count with the largest.",
        columns,
        [
            (
                layer.name,
                layer.type,
                _sides(layer.kernel),
                _sides(layer.stride),
                _sides(layer.padding),
                _sides(layer.output),
                _sides(layer.field),
                _sides(layer.jump),
            )
            for layer in fields
        ],
    )


def _sides(pair: tuple[int, int]) -> int | str:
    """Return a height and width as one number if they are equal."""
    height, width = pair
    return height if height == width else f"{height}x{width}"


def separable_cost(trial: OpenedTrial, options: Options) -> Table:
    """Return a table with a row per depthwise-separable block; needs no weights."""
    blocks = separable_blocks(trial.fresh(), trial.image_size)
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
        f"Depthwise-separable blocks of {trial.config.arch} at {trial.image_size} pixels",
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


def enhancement(trial: OpenedTrial, options: Options) -> Table:
    """Measure the enhancements, store all rows, return a table of those of the test split."""
    _check_validation(trial, "enhancement chooses its factors on validation images")
    effects = study_enhancement(
        trial.trained(),
        trial.splits.val,
        trial.splits.test,
        precision=trial.config.precision,
        device=trial.device,
        seed=trial.seed,
    )
    made_at = now()
    rows = [{**_enhancement_row(each, trial.trial_id), "made_at": made_at} for each in effects]
    trial.store.write("enhancement", trial.trial_id, rows)
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
    path = trial.store.table_path("enhancement", trial.trial_id)
    return Table(
        f"Enhancement of the {effects[-1].effect.images:,} test images, {trial.about}",
        "Factors chosen on validation images. Noise: Gaussian, of the same norm on every image. "
        f"Stored in {path}.",
        columns,
        [
            tuple(row.get(column.name) for column in columns)
            for row in rows
            if row["split"] == "test"
        ],
    )


def _enhancement_row(measured: Enhancement, trial_id: str) -> dict[str, Any]:
    """Return a row of the table `enhancement`, without the time."""
    effect, random = measured.effect, measured.random
    row = {
        "trial_id": trial_id,
        "split": measured.split,
        "transform": measured.transform,
        **measured.factors,
        "chosen": measured.chosen,
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


def _check_validation(trial: OpenedTrial, why: str) -> None:
    """Raise `ValueError` if the trial has no validation images."""
    if not len(trial.splits.val):
        raise ValueError(
            f"{why}, and trial {trial.trial_id} has none (val_fraction: 0); train one with "
            "val_fraction above 0"
        )


def _image_index(trial: OpenedTrial, options: Options) -> int:
    """Return the number of the test image; raise `ValueError` if there is no such image."""
    index, count = options.image or 0, len(trial.splits.test)
    if index >= count:
        raise ValueError(f"--image {index}: there are {count} test images, 0 to {count - 1}")
    return index
