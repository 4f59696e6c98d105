"""The course's code with its model on the second device: nothing forgets to move, and what comes out is the CPU's."""

import pytest
import torch
from second_device import NAME
from torch import nn

from classroom.models import finetune, task
from classroom.models.load import load

DEVICES = ("cpu", NAME)
PAIRS = task.pairs("train", 8)


def loaded(device):
    return load("tiny", device=device, dtype="float32")


@pytest.fixture(scope="module")
def model_and_tokenizer():
    return loaded(NAME)


def on_both(make):
    """make(device) on the CPU and on the second device, the latter's result brought to the CPU."""
    there = make(NAME)
    assert there.device.type == NAME
    return make("cpu"), there.cpu()


# ---------------------------------------------------------------- models


def test_a_batch_of_another_device_is_refused(model_and_tokenizer):
    """The defect that this folder is for."""
    model, tokenizer = model_and_tokenizer
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        model(**next(finetune.batches(tokenizer, PAIRS, 4)))


def test_without_a_device_the_first_gpu_is_taken_in_bf16(first_gpu):
    model, _ = load("tiny")
    assert (model.device.type, model.dtype) == (first_gpu, torch.bfloat16)


def test_full_fine_tuning_is_in_float32_on_a_gpu_too(first_gpu):
    model, _ = finetune.trainable("full")
    assert (model.device.type, model.dtype) == (first_gpu, torch.float32)


def test_loss_and_gradients_are_those_of_the_cpu():
    def gradients(device):
        model, tokenizer = loaded(device)
        model(**next(finetune.batches(tokenizer, PAIRS, 4, device=device))).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    torch.testing.assert_close(*on_both(gradients), rtol=1e-4, atol=1e-5)


def test_generation_says_what_the_cpu_says(model_and_tokenizer):
    asked = task.pairs("test", 3)
    assert task.answers(*model_and_tokenizer, asked) == task.answers(*loaded("cpu"), asked)


def test_an_adapter_learns_is_saved_and_loaded(tmp_path):
    from classroom.models.adapter import load_adapter, save_adapter

    model, tokenizer = finetune.trainable("lora", device=NAME, dtype="float32")
    run = finetune.training(model, tokenizer, PAIRS, steps=3, rate=1e-3, size=4)
    run.go()
    assert run.history[-1].loss < run.history[0].loss
    save_adapter(model, tmp_path / "adapter")
    again, _ = load_adapter(tmp_path / "adapter", device=NAME, dtype="float32")
    ids = torch.arange(12, device=NAME)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model.eval()(ids).logits)


# ---------------------------------------------------------------- memory


def test_a_step_is_measured_where_the_model_is():
    """What the tensors hold is what they hold on the CPU. (Attention comes in parts here, so activations are more.)"""
    from coursekit.memory.measure import measure

    found = {}
    for device in DEVICES:
        model, tokenizer = loaded(device)
        batch = next(finetune.batches(tokenizer, PAIRS, 4, device=device))
        found[device] = measure(model.train(), torch.optim.AdamW(model.parameters()), [batch])
    cpu, second = found.values()
    assert (second.weights, second.gradients, second.optimizer) == (cpu.weights, cpu.gradients, cpu.optimizer)
    assert second.activations > 0 and second.peak > second.weights + second.optimizer


def test_checkpointing_by_hand_draws_the_same_numbers_again():
    """Dropout draws from the device's generator: its state must come again, not only that of the CPU."""
    from coursekit.memory.checkpoint import checkpoint

    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 8)).to(NAME)

    def gradients(way):
        torch.manual_seed(1)
        block.zero_grad()
        way(torch.ones(4, 8, device=NAME, requires_grad=True)).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in block.parameters()]), torch.rand(2, device=NAME)

    (plain, after_plain), (ours, after) = gradients(block), gradients(lambda x: checkpoint(block, x))
    assert torch.equal(plain, ours) and torch.equal(after, after_plain)


# ---------------------------------------------------------------- optimizers, codes, formats


def optimizers():
    from coursekit.optim.adafactor import Adafactor
    from coursekit.optim.adamw import AdamW
    from coursekit.optim.adamw8bit import AdamW8bit
    from coursekit.optim.paged import PagedAdamW

    return {made.__name__: made for made in (AdamW, AdamW8bit, Adafactor, PagedAdamW)}


@pytest.mark.parametrize("name", ["AdamW", "AdamW8bit", "Adafactor", "PagedAdamW"])
def test_an_optimizer_steps_and_is_restored(name):
    def weight_after(device):
        weight = nn.Parameter(torch.linspace(-1, 1, 64 * 128).view(64, 128).to(device))
        optimizer = optimizers()[name]([weight], lr=1e-2)
        for factor in (1.0, -0.5):
            weight.grad = weight.detach() * factor
            optimizer.step()
        again = optimizers()[name]([weight], lr=1e-2)
        again.load_state_dict(optimizer.state_dict())
        again.step()
        return weight.detach()

    torch.testing.assert_close(*on_both(weight_after))


def test_codes_are_those_of_the_cpu():
    from coursekit.quantization.blockwise import dequantize, quantize

    x = torch.linspace(-3, 2, 1000)
    codes, there = on_both(lambda device: quantize(x.to(device))[0])
    assert torch.equal(codes, there)
    assert torch.equal(*on_both(lambda device: dequantize(*quantize(x.to(device)))))


@pytest.mark.parametrize("name", ["BF16", "FP16", "E4M3"])
def test_formats_round_and_encode_as_on_the_cpu(name):
    from coursekit.formats import spec
    from coursekit.formats.summation import partial_sums
    from coursekit.formats.tensor import decode, encode, round_to

    fmt, x = getattr(spec, name), torch.linspace(-400, 400, 999)
    assert torch.equal(*on_both(lambda device: round_to(x.to(device), fmt)))
    assert torch.equal(*on_both(lambda device: decode(encode(x.to(device), fmt), fmt)))
    assert torch.equal(*on_both(lambda device: partial_sums(x[480:500].to(device), fmt)))


@pytest.mark.parametrize("name", ["MXFP8_E4M3", "MXFP4", "NVFP4"])
def test_blocks_are_quantised_as_on_the_cpu(name):
    from coursekit.formats import spec
    from coursekit.formats.block import quantize

    x = torch.linspace(-5, 5, 256).view(4, 64)
    assert torch.equal(*on_both(lambda device: quantize(x.to(device), getattr(spec, name)).dequantize()))


# ---------------------------------------------------------------- mixed precision


@pytest.mark.parametrize("name", ["FP32", "FP16 only", "FP16 + master + scaling"])
def test_a_recipe_of_mixed_precision_trains(name):
    from classroom.lectures.amp.experiments import PRECISION_RECIPES, train_with_precision

    losses = {
        device: train_with_precision(PRECISION_RECIPES[name], device=device, steps=2, size=2).losses
        for device in DEVICES
    }
    assert losses[NAME] == pytest.approx(losses["cpu"], rel=2e-2, nan_ok=True)


def test_gradients_are_counted_and_drawn():
    from classroom.lectures.amp import figures as draw
    from coursekit.amp.grad_stats import activation_gradients, by_layer, largest_safe_scale, overall
    from coursekit.formats.spec import FP16

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)).to(NAME)
    with activation_gradients(model) as found:
        model(torch.ones(4, 8, device=NAME)).mean().backward()
    assert len(by_layer(found, FP16)) == 3 and overall(found.values(), FP16).numbers
    assert largest_safe_scale(found.values(), FP16) > 1
    numbers = torch.cat([tensor.flatten() for tensor in found.values()])
    draw.gradient_histogram({"activations": numbers}, title="")


# ---------------------------------------------------------------- throughput


def test_steps_of_every_batching_and_variant():
    from classroom.lectures.throughput import experiments
    from classroom.lectures.throughput.experiments import TrainStep

    tokenizer, rows = experiments.conversations(6)
    for batches in experiments.padded_bucketed_packed(tokenizer, rows, size=3).values():
        losses = [TrainStep(batches, device=NAME, dtype=dtype)().item() for dtype in ("float32", "bfloat16")]
        assert losses[0] == pytest.approx(losses[1], rel=0.05)
    for contestants in (experiments.item_steps(device=NAME), experiments.optimizer_steps(NAME)):
        list(contestants.values())[-1]()


def test_packed_texts_have_the_losses_that_they_have_on_the_cpu():
    from coursekit.throughput import packing

    _, tokenizer = loaded("cpu")
    batch = packing.packed_batch([finetune.encode_pair(tokenizer, pair) for pair in PAIRS[:3]], 256)

    def loss(device):
        with torch.no_grad():
            return loaded(device)[0](**{k: t.to(device) for k, t in batch.items()}, use_cache=False).loss

    torch.testing.assert_close(*on_both(loss))


def test_operations_of_the_roofline_are_made_on_the_device():
    from coursekit.throughput.roofline import decode, matmul, rms_norm, softmax

    for operation in (
        matmul(8, device=NAME),
        rms_norm(4, 8, NAME),
        softmax(4, 8, NAME),
        decode(8, device=NAME),
    ):
        operation.run()


def test_waits_for_the_device_are_counted():
    from coursekit.throughput.syncs import SyncCounter

    with SyncCounter(NAME) as watch:
        torch.ones(2, device=NAME).sum().item()
        torch.ones(2).sum().item()
    assert watch.total() == 1


# ---------------------------------------------------------------- what a notebook shows


def test_compare_and_predict_take_tensors_of_the_device(capsys):
    from classroom.notebook.predict import Prediction
    from classroom.notebook.show import compare

    compare("values", torch.arange(3, device=NAME), torch.arange(3))
    assert "equal: True" in capsys.readouterr().out
    Prediction("a number", 1).reveal(torch.tensor(2.0, device=NAME))
