"""The exercises of lecture 4, easy to hard: `check.padding_share(padding_share)` answers with a Verdict.

What is true is in `throughput_cases`, what typically goes wrong in `throughput_mistakes`.
"""

from __future__ import annotations

from classroom.checking.check import Exercise
from classroom.lectures.throughput import cases, mistakes

padding_share = Exercise(
    name="padding_share",
    title="What padding costs",
    minutes=5,
    cases=cases.padding_share,
    mistakes=mistakes.PADDING,
    same=cases.close,
    alike=cases.close,
    hints=(
        "A batch is a rectangle: as many rows as texts, as wide as its longest text. How many tokens is that?",
        "Add up the rectangles of all batches, and add up the real lengths. Divide once, at the very end.",
        "`computed = sum(len(b) * max(b) for b in batches)`, `real = sum(map(sum, batches))`; the answer: "
        "`1 - real / computed`.",
    ),
    praise="Every one of those tokens is computed, and none of them teaches.",
)

position_ids = Exercise(
    name="position_ids",
    title="Positions in a packed row",
    minutes=5,
    cases=cases.position_ids,
    mistakes=mistakes.POSITIONS,
    hints=(
        "Each text counts as if it stood alone: its first token is at position 0.",
        "What does one text of length n contribute? The numbers from 0 to n - 1.",
        "`[position for length in lengths for position in range(length)]`.",
    ),
    praise="This is what transformers' DataCollatorWithFlattening hands to the model.",
)

roofline = Exercise(
    name="roofline",
    title="Under which roof?",
    minutes=5,
    cases=cases.roofline,
    mistakes=mistakes.ROOFLINE,
    same=cases.close,
    alike=cases.close,
    hints=(
        "Two things take time: computing and moving bytes. The slower of the two decides.",
        "FLOPs for each byte, times bytes a second, is what the memory allows. It never exceeds the peak.",
        "In TFLOP/s: `slope = flops / bytes_moved * gb_per_second / 1000`. The answer is "
        '`min(slope, peak_tflops)`, and "memory" where the slope is the lower one.',
    ),
    praise="Now you know which of the two a faster kernel could help.",
)

energy = Exercise(
    name="energy",
    title="The energy of a run",
    minutes=5,
    cases=cases.energy,
    mistakes=mistakes.ENERGY,
    same=cases.close,
    alike=cases.close,
    hints=(
        "A card of 1,000 W that runs for one hour takes 1 kWh. What do eight of them take?",
        "PUE multiplies the energy: a PUE of 1.2 adds a fifth, mostly for cooling. CO2 follows from that.",
        "`kwh = cards * watts * hours / 1000 * pue`, and `kwh * grams_per_kwh / 1000` kilograms.",
    ),
    praise="PUE and grid differ from place to place: always say which you assumed.",
)

linear_flops = Exercise(
    name="linear_flops",
    title="The FLOPs of a linear layer",
    minutes=10,
    cases=cases.linear_flops,
    mistakes=mistakes.LINEAR,
    hints=(
        "Every number of the result is a dot product: `inputs` multiplications and as many additions.",
        "Backward has up to two products of the same size: one gives the gradient of x, one that of the weight.",
        "Forward `2 * tokens * inputs * outputs`; backward the same once if the weight is frozen, else twice.",
    ),
    praise="Freezing a weight saves a third of its FLOPs, not all of them.",
)

mfu = Exercise(
    name="mfu",
    title="From tokens a second to MFU",
    minutes=10,
    cases=cases.mfu,
    mistakes=mistakes.MFU,
    same=cases.close,
    alike=cases.close,
    hints=(
        "For each token and parameter: 2 FLOPs forward, 2 for the gradient that travels on, 2 for the weight's own.",
        "Trained parameters need all six. Which of the three parts does a frozen one not need?",
        "`(6 * trained + 4 * frozen) * tokens_per_second / (peak_tflops * 1e12)`.",
    ),
    praise="A number that can be compared between models and cards.",
)

length_batches = Exercise(
    name="length_batches",
    title="Batches of similar length",
    minutes=10,
    cases=cases.length_batches,
    mistakes=mistakes.BATCHES,
    probe=cases.report_on_batches,
    alike=cases.same_fault,
    show=str,
    hints=(
        "Texts of similar length are neighbours once the *indices* are sorted by length.",
        "Cut the sorted indices into batches first, and shuffle the finished batches, not what is in them.",
        "`order = sorted(range(len(lengths)), key=lambda i: lengths[i])`, slices of `batch_size`, "
        "then `random.Random(seed).shuffle(batches)`.",
    ),
    praise="Little padding, and the model still meets short and long texts in turn.",
)

may_see = Exercise(
    name="may_see",
    title="Who may see whom in a packed row",
    minutes=10,
    cases=cases.may_see,
    mistakes=mistakes.MASK,
    probe=cases.mask_as_numbers,
    hints=(
        "Two conditions, and both must hold: the same text, and not later in the row.",
        "Give each token the number of its text: [3, 2] becomes 0, 0, 0, 1, 1. Compare all with all: "
        "`text[:, None] == text[None, :]`.",
        "`.tril()` keeps what is on and below the diagonal: `(text[:, None] == text[None, :]).tril()`.",
    ),
    praise="With this mask and those positions a packed text gives the same logits as alone.",
)

train = Exercise(
    name="train",
    title="A loop that does not wait",
    minutes=10,
    cases=cases.train,
    mistakes=mistakes.TRAIN,
    probe=cases.waits_and_losses,
    same=cases.same_reading,
    alike=cases.same_reading,
    show=cases.show_reading,
    hints=(
        "Keeping a tensor in a list costs no waiting. Only its *value* does: `.item()`, `float()`, `print`, `if`.",
        "Two lists: losses that are numbers already, and tensors still waiting. Empty the second every so many steps.",
        "After `every` steps, and after the last one: `losses += torch.stack(waiting).tolist()` and `waiting = []`.",
    ),
    praise="The same list, and the GPU is asked for it far less often.",
)

pack = Exercise(
    name="pack",
    title="Pack texts into rows",
    minutes=15,
    cases=cases.pack,
    mistakes=mistakes.PACK,
    probe=cases.report_on_rows,
    alike=cases.same_fault,
    show=str,
    hints=(
        "Long texts are hard to place and short ones fill gaps: begin with the longest.",
        "For each text look through the rows *from the first on*, and take the first where it still fits. "
        "Exactly full is full, not too full.",
        "Keep `rows` and the `room` left in each. No row with `room[r] >= lengths[i]`? Then open a new one.",
    ),
    praise="A greedy rule of five lines that is never far from the best.",
)

block_flops = Exercise(
    name="block_flops",
    title="The FLOPs of a Llama block",
    minutes=15,
    cases=cases.block_flops,
    mistakes=mistakes.BLOCK,
    hints=(
        "Nine products: q, k, v, o; queries times keys; probabilities times values; gate, up, down.",
        "Seven of them are linear layers. The other two cost `2 * batch * tokens**2 * hidden` each, "
        "however many heads share it.",
        "Weights: `2 * hidden**2 + 2 * hidden * kv_width + 3 * hidden * inner`, times "
        "`2 * batch * tokens`; plus attention. Backward is twice forward.",
    ),
    praise="FlopCounterMode says the same of transformers' LlamaDecoderLayer.",
)

EXERCISES = (
    padding_share,
    position_ids,
    roofline,
    energy,
    linear_flops,
    mfu,
    length_batches,
    may_see,
    train,
    pack,
    block_flops,
)
