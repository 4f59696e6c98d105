"""The exercises of lecture 3, easy to hard: `check.state_size(state_size)` answers with a Verdict.

What is true is in `memory_cases`, what typically goes wrong in `memory_mistakes`.
"""

from __future__ import annotations

from classroom.checking.check import Exercise
from classroom.lectures.memory import cases, mistakes

state_size = Exercise(
    name="state_size",
    title="Bytes a parameter",
    minutes=5,
    cases=cases.state_size,
    mistakes=mistakes.SIZE,
    same=cases.near,
    alike=cases.near,
    hints=(
        "Each tensor has `parameters` elements. How many bytes has an element of each dtype?",
        "An 8-bit state has a byte an element, and 4 bytes for each block of 256 that is begun: `-(-n // 256)` blocks.",
        "Add up 4, 2, 2 or 1 times `parameters` (and the blocks), then divide by 10**9 for GB, by 2**30 for GiB.",
    ),
    praise="16, 18 or 20 bytes a parameter: the ledger decides, so always name it.",
)

count_parameters = Exercise(
    name="count_parameters",
    title="Count a Llama's parameters",
    minutes=10,
    cases=cases.count_parameters,
    mistakes=mistakes.COUNT,
    hints=(
        "Write down the shape of every matrix of one layer: Q, K, V, O, gate, up, down. Then the norms.",
        "Q and O: hidden x (heads x head_dim). K and V: hidden x (KV heads x head_dim). Three MLP matrices: hidden x "
        "intermediate. Two norms of hidden.",
        "Layers times that, plus one last norm, plus the embedding, plus a head of the same size unless it is tied.",
    ),
    praise="To the unit, as transformers counts it.",
)

activation_bytes = Exercise(
    name="activation_bytes",
    title="What a layer keeps for backward",
    minutes=10,
    cases=cases.activation_bytes,
    mistakes=mistakes.ACTIVATIONS,
    same=cases.near,
    alike=cases.near,
    hints=(
        "Multiplied out: 34 s b h bytes for tensors of tokens, and 5 a s s b for tables of scores.",
        "Without checkpointing: layers times that. With it: an input of 2 s b h for each layer, and one layer in full.",
        "`layer = 34 * s * b * h + 5 * a * s * s * b`; checkpointed: `layers * 2 * s * b * h + layer`.",
    ),
    praise="Twice the sequence, four times the scores: that is why FlashAttention does not keep them.",
)

peak_memory = Exercise(
    name="peak_memory",
    title="Where is the peak?",
    minutes=10,
    cases=cases.peak_memory,
    mistakes=mistakes.PEAK,
    same=cases.same_peak,
    alike=cases.like_peak,
    show=cases.show_peak,
    hints=(
        "Keep a dictionary of the bytes that each category holds now, and go through the events in order.",
        "After each event, compare the sum of the dictionary with the highest so far; if it is higher, note the phase "
        "and *copy* the dictionary.",
        "At the end divide the noted bytes of each category by the peak. `>` and not `>=` keeps the first of equals.",
    ),
    praise="A category's own peak says little: what counts is what is there at the same time.",
)

accumulate = Exercise(
    name="accumulate",
    title="Accumulate gradients, rightly",
    minutes=15,
    cases=cases.accumulate,
    mistakes=mistakes.ACCUMULATE,
    probe=cases.gradients_and_rows,
    same=cases.same_accumulation,
    alike=cases.like_accumulation,
    show=cases.show_accumulation,
    hints=(
        "The whole batch's loss is one sum over all targets that count, divided by how many count. Which part of it "
        "belongs to a micro-batch?",
        "Count the targets that are not -100 in *all* micro-batches first. Then each micro-batch gives its sum divided "
        "by that number.",
        '`reduction="sum"`, divided by the number of all targets that count, and `.backward()` for each micro-batch.',
    ),
    praise="Same gradients as the whole batch, in the memory of one micro-batch.",
)

quantize_blockwise = Exercise(
    name="quantize_blockwise",
    title="8-bit states, block by block",
    minutes=15,
    cases=cases.quantize_blockwise,
    mistakes=mistakes.QUANTIZE,
    probe=cases.three_lists,
    same=cases.same_quantized,
    alike=cases.same_quantized,
    show=cases.show_quantized,
    hints=(
        "`x.split(blocksize)` gives the blocks, the short one at the end too. Each has its own `block.abs().max()`.",
        "A table of distances, one row a value, one column a code: `(block / scale)[:, None] - code[None, :]`. "
        "The smallest size in each row is the nearest.",
        "`.abs().argmin(dim=1)` of that table are the codes; `code[codes] * scale` restores. Where scale is 0, do not "
        "divide.",
    ),
    praise="One byte a number and four for each block: that is 8-bit Adam's memory.",
)

cheapest_fit = Exercise(
    name="cheapest_fit",
    title="Make it fit",
    minutes=15,
    cases=cases.cheapest_fit,
    mistakes=mistakes.FIT,
    probe=cases.names_in_order,
    same=cases.same_names,
    alike=cases.same_names,
    hints=(
        "Eight changes have 256 combinations: a computer tries them all. `itertools.combinations(changes, n)` for "
        "every n, 0 too.",
        "Drop combinations in which a group comes twice, and those that still need more than the card has.",
        "Of what is left take the smallest `math.prod` of the time factors; if nothing is left, return None.",
    ),
    too_slow="256 combinations take milliseconds. Do you go through orders (permutations) instead of combinations?",
    praise="The planner of the lecture does the same, with bytes that it computes.",
)

checkpointed = Exercise(
    name="checkpointed",
    title="A checkpoint by hand",
    minutes=20,
    cases=cases.checkpointed,
    mistakes=mistakes.CHECKPOINT,
    probe=cases.run_and_count,
    same=cases.same_checkpoint,
    alike=cases.like_checkpoint,
    show=cases.show_checkpoint,
    hints=(
        "`forward` saves x by `ctx.save_for_backward(x)`, and the random state and the layer as attributes of ctx. It "
        "returns `layer(x)`; autograd is off there by itself.",
        "`backward` detaches x, asks for its gradient (`requires_grad_()`), sets the random state, and computes "
        "`layer(x)` again under `torch.enable_grad()`.",
        "`torch.autograd.grad(y, (x, *layer.parameters()), gradient)` gives all gradients. Return None for the layer, "
        "then those.",
    ),
    praise="This is torch.utils.checkpoint without its safety belts.",
)

EXERCISES = (
    state_size,
    count_parameters,
    activation_bytes,
    peak_memory,
    accumulate,
    quantize_blockwise,
    cheapest_fit,
    checkpointed,
)
