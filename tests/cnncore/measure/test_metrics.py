import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from cnncore.measure.metrics import ECE_BINS, classification_metrics


def close(expected):
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def some_logits(n, classes, *, seed=0, distinct=None, strength=1.5):
    """Return random logits that favour the label; with `distinct` different rows there are ties."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), labels] += strength
    if distinct:
        logits = logits[torch.randint(0, distinct, (n,), generator=generator)]
    return logits, labels


def softmax(logits):
    return torch.softmax(logits.double(), dim=1).numpy()


@pytest.mark.parametrize(
    ("n", "classes", "distinct"),
    [(500, 2, None), (500, 6, None), (1000, 10, None), (1000, 10, 40), (3000, 100, 500), (9, 2, 2)],
)
def test_every_metric_equals_scikit_learns(n, classes, distinct):
    logits, labels = some_logits(n, classes, distinct=distinct)
    measured = classification_metrics(logits, labels)
    truth, predicted = labels.numpy(), logits.argmax(dim=1).numpy()
    everything = list(range(classes))
    probabilities = softmax(logits)

    precision, recall, f1, support = reference.precision_recall_fscore_support(
        truth, predicted, labels=everything, zero_division=0
    )
    assert [c.support for c in measured.classes] == support.tolist()
    assert [c.precision for c in measured.classes] == close(precision.tolist())
    assert [c.recall for c in measured.classes] == close(recall.tolist())
    assert [c.f1 for c in measured.classes] == close(f1.tolist())
    assert measured.macro_precision == close(precision.mean())
    assert measured.macro_recall == close(recall.mean())
    assert measured.macro_f1 == close(f1.mean())
    areas = [reference.roc_auc_score(truth == c, probabilities[:, c]) for c in everything]
    assert [c.auc for c in measured.classes] == close(areas)
    assert measured.macro_auc == close(np.mean(areas))
    assert measured.top1 == close(reference.accuracy_score(truth, predicted))
    assert measured.loss == close(reference.log_loss(truth, probabilities, labels=everything))
    confusion = reference.confusion_matrix(truth, predicted, labels=everything)
    assert measured.confusion.tolist() == confusion.tolist()
    assert measured.predicted.tolist() == predicted.tolist()
    assert measured.labels.tolist() == truth.tolist()
    assert measured.confidence.dtype == np.float32
    assert measured.confidence == pytest.approx(probabilities.max(axis=1), rel=1e-6)


def test_macro_auc_equals_scikit_learns_one_against_rest():
    logits, labels = some_logits(2000, 10)
    expected = reference.roc_auc_score(labels, softmax(logits), multi_class="ovr")
    assert classification_metrics(logits, labels).macro_auc == close(expected)


def test_top5_equals_scikit_learns_and_is_none_below_six_classes():
    logits, labels = some_logits(1000, 6, strength=0.2)
    expected = reference.top_k_accuracy_score(labels, logits.numpy(), k=5)
    assert classification_metrics(logits, labels).top5 == close(expected)
    assert classification_metrics(logits[:, :5], labels.clamp(max=4)).top5 is None


def test_equal_logits_rank_by_class_index():
    logits, labels = torch.zeros(6, 6), torch.arange(6)
    measured = classification_metrics(logits, labels)
    assert measured.predicted.tolist() == [0] * 6
    assert measured.top1 == pytest.approx(1 / 6)
    assert measured.top5 == pytest.approx(5 / 6)


def test_a_class_without_images_has_no_auc_and_is_left_out_of_its_mean():
    logits, labels = some_logits(400, 4)
    labels[labels == 2] = 1
    measured = classification_metrics(logits, labels)
    assert (measured.classes[2].support, measured.classes[2].auc) == (0, None)
    areas = [c.auc for c in measured.classes if c.auc is not None]
    assert len(areas) == 3
    assert measured.macro_auc == close(np.mean(areas))


def test_macro_averages_are_over_the_classes_with_an_image_or_a_prediction():
    logits, labels = some_logits(400, 5)
    labels[labels == 2] = 1
    labels[labels == 3] = 1
    logits[:, 3] = -100  # class 3 has neither, class 2 predictions alone
    measured = classification_metrics(logits, labels)
    expected = reference.precision_recall_fscore_support(
        labels, logits.argmax(1), average="macro", zero_division=0
    )
    averages = (measured.macro_precision, measured.macro_recall, measured.macro_f1)
    assert averages == close(expected[:3])
    assert (measured.classes[2].precision, measured.classes[2].f1) == (0, 0)
    assert (measured.classes[3].recall, measured.classes[3].f1) == (None, None)


def test_only_one_class_in_the_labels_leaves_no_auc_at_all():
    measured = classification_metrics(torch.eye(3), torch.zeros(3, dtype=torch.int64))
    assert measured.macro_auc is None
    assert [c.auc for c in measured.classes] == [None] * 3


def test_a_class_never_predicted_scores_zero():
    logits, labels = some_logits(300, 3)
    logits[:, 1] = -100.0
    one = classification_metrics(logits, labels).classes[1]
    assert (one.precision, one.recall, one.f1) == (0.0, 0.0, 0.0)
    assert one.support > 0


def calibration_error(confidence, right):
    """Compute the sum over bins of arXiv 1706.04599, equation 3, one bin at a time."""
    total = 0.0
    for k in range(ECE_BINS):
        inside = (confidence > k / ECE_BINS) & (confidence <= (k + 1) / ECE_BINS)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            total += gap * inside.sum() / len(confidence)
    return total


def test_ece_equals_the_papers_sum_over_bins():
    # Right in every second bin, so that neighbours merged into one bin would cancel out.
    confidence = np.random.default_rng(0).uniform(0.04, 1.0, 2000)
    right = np.floor(confidence * ECE_BINS) % 2 == 0
    rest = (1 - confidence) / 29
    probabilities = np.concatenate([confidence[:, None], np.tile(rest[:, None], 29)], axis=1)
    logits, labels = torch.tensor(np.log(probabilities)), torch.tensor(np.where(right, 0, 1))
    measured = classification_metrics(logits, labels)
    assert measured.ece == close(calibration_error(confidence, right))


def test_a_confidence_of_one_belongs_to_the_last_bin():
    logits = torch.tensor([[1000.0, 0.0], [3.0, 0.0]])
    confidence = 1 / (1 + np.exp(-3.0))
    measured = classification_metrics(logits, torch.tensor([1, 0]))
    assert measured.ece == close(abs(1 - (1 + confidence)) / 2)


def test_full_confidence_in_wrong_answers_is_an_ece_of_one():
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    measured = classification_metrics(logits, torch.tensor([1, 1]))
    assert measured.ece == 1.0
    assert measured.loss == 1000.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_give_nan_and_no_error(value):
    logits, labels = some_logits(50, 8)
    logits[7] = value
    measured = classification_metrics(logits, labels)
    assert math.isnan(measured.loss)
    assert math.isnan(measured.ece)
    assert measured.macro_auc is None
    assert 0 < measured.top1 < 1


def test_bfloat16_logits_on_a_gradient_are_taken_as_they_are():
    logits, labels = some_logits(100, 4)
    halves = logits.bfloat16().requires_grad_()
    measured = classification_metrics(halves, labels.to(torch.int32))
    assert measured.loss == classification_metrics(logits.bfloat16().double(), labels).loss


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), "labels must be 0 to 1, got 0 to 2"),
        (torch.zeros(1, 2), torch.tensor([-1]), "labels must be 0 to 1, got -1"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), r"got \(3, 2\) and \(2,\)"),
        (torch.zeros(3), torch.tensor([0, 1, 1]), "shape"),
        (torch.zeros(0, 2), torch.tensor([], dtype=torch.int64), "n of 1 and more"),
    ],
)
def test_shapes_and_labels_that_do_not_fit_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(logits, labels)
