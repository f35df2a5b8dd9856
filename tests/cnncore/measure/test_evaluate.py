import numpy as np
import pyarrow as pa
import pytest
import torch

from cnncore.measure.evaluate import class_rows, eval_mode, predict, prediction_columns
from cnncore.measure.metrics import classification_metrics
from cnncore.models import build_model
from grid.store.records import TABLES, schema

CPU = torch.device("cpu")
NAMES = ("cat", "dog", "frog")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build_model("mobilenet_small", classes=3, image_size=8)
    model.train()(torch.randn(16, 3, 8, 8))  # statistics that are not the initial ones
    return model


def some_batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, 8, 8, generator=generator).to(memory_format=torch.channels_last),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for size in sizes
    ]


def test_predict_joins_the_logits_of_all_batches_in_order(model):
    batches = some_batches(4, 4, 1)
    logits, labels = predict(model, iter(batches), precision="fp32", device=CPU)
    with torch.no_grad():
        expected = model.eval()(torch.cat([images for images, _ in batches]))
    torch.testing.assert_close(logits, expected)
    assert labels.tolist() == torch.cat([labels for _, labels in batches]).tolist()
    assert (logits.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert not logits.is_inference()
    assert not labels.is_inference()


def test_predict_leaves_weights_statistics_and_modes(model):
    model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, some_batches(4), precision="fp32", device=CPU)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_modes_come_back_after_an_error(model):
    def break_down():
        with eval_mode(model):
            assert not model.training
            raise KeyError

    model.train()
    with pytest.raises(KeyError):
        break_down()
    assert all(module.training for module in model.modules())


def test_bf16_computes_in_bfloat16_and_returns_float32(model):
    dtypes = []
    model[-1].register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    batches = some_batches(8)
    logits, _ = predict(model, batches, precision="bf16", device=CPU)
    full, _ = predict(model, batches, precision="fp32", device=CPU)
    assert dtypes == [torch.bfloat16, torch.float32]
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, full, atol=0.05, rtol=0.05)


def test_wrong_arguments_are_refused(model):
    with pytest.raises(ValueError, match="at least one batch"):
        predict(model, [], precision="fp32", device=CPU)
    with pytest.raises(ValueError, match="precision must be fp32, tf32 or bf16, got 'fp16'"):
        predict(model, some_batches(1), precision="fp16", device=CPU)


def test_rows_of_the_tables_have_their_columns_and_the_metrics(model):
    batches = some_batches(20, 5)
    logits, labels = predict(model, batches, precision="fp32", device=CPU)
    expected = classification_metrics(logits, labels)

    rows = class_rows(expected, NAMES, trial_id="abc", split="val")
    assert [tuple(row) for row in rows] == [tuple(c.name for c in TABLES["classes"])] * 3
    assert [(row["class_index"], row["class_name"]) for row in rows] == list(enumerate(NAMES))
    assert {(row["trial_id"], row["split"]) for row in rows} == {("abc", "val")}
    for row, one in zip(rows, expected.classes, strict=True):
        assert {name: row[name] for name in vars(one)} == vars(one)

    columns = prediction_columns(expected, trial_id="abc", split="test")
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    assert table.schema == schema("predictions")
    assert columns["index"].tolist() == list(range(25))
    assert columns["label"].tolist() == labels.tolist()
    assert columns["predicted"].tolist() == logits.argmax(1).tolist()
    assert set(columns["trial_id"]) == {"abc"}
    assert set(columns["split"]) == {"test"}
    confidence = logits.softmax(1).max(1).values.numpy()
    np.testing.assert_allclose(columns["confidence"], confidence, rtol=1e-6)
