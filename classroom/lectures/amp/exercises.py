"""The exercises of lecture 2, easy to hard: `check.share_flushed(share_flushed)` answers with a Verdict.

What is true is in `amp_cases`, what typically goes wrong in `amp_mistakes`.
"""

from __future__ import annotations

from classroom.checking.check import Exercise
from classroom.lectures.amp import cases, mistakes

share_flushed = Exercise(
    name="share_flushed",
    title="Which gradients die?",
    minutes=10,
    cases=cases.share_flushed,
    mistakes=mistakes.FLUSHED,
    same=cases.close,
    alike=cases.close,
    hints=(
        "Zeros were dead before: take the nonzero gradients only, and none of them means a share of 0.0.",
        "Multiply by the scale *in FP32*, then cast: `(gradients * scale).half()`. What is zero now?",
        "`g = gradients[gradients != 0]`, then `((g * scale).half() == 0).float().mean().item()`.",
    ),
    praise="That number decides whether a run in FP16 learns.",
)

largest_safe_scale = Exercise(
    name="largest_safe_scale",
    title="The largest safe scale",
    minutes=10,
    cases=cases.largest_safe_scale,
    mistakes=mistakes.SAFE,
    hints=(
        "Only the gradient of the largest *size* matters; its sign does not.",
        "S times the largest may be 65,504 at most. How many doublings fit between the two?",
        "`2.0 ** math.floor(math.log2(65504 / max(abs(g) for g in gradients)))`.",
    ),
    praise="A power of two changes the exponents and no digit.",
)

bytes_held = Exercise(
    name="bytes_held",
    title="Bytes that stay",
    minutes=10,
    cases=cases.bytes_held,
    mistakes=mistakes.BYTES,
    hints=(
        "Four groups stay from step to step: weights, gradients, master weights, and two states of Adam.",
        "Under autocast the tensors that stay are FP32, all of them. With masters, Adam and the gradients that "
        "it reads belong to the FP32 masters.",
        "A parameter: fp32 4+4+8, autocast the same, bf16 only 2+2+4, masters 2+4+4+8.",
    ),
    praise="Mixed precision saves time and activations, not these.",
)

bits_of_result = Exercise(
    name="bits_of_result",
    title="Which operation runs in which dtype?",
    minutes=10,
    cases=cases.bits_of_result,
    mistakes=mistakes.BITS,
    hints=(
        "Three rules: products of matrices go to 16 bits; some losses go to 32; the rest runs as its input comes.",
        "On a CPU softmax, layer_norm, exp and sum run as they come. That is what differs from CUDA.",
        '16 for "linear" and "matmul", 32 for "mse_loss", otherwise `input_bits`.',
    ),
    praise="And on CUDA four of these are different.",
)

scale_trajectory = Exercise(
    name="scale_trajectory",
    title="Write the dynamic scaler",
    minutes=20,
    cases=cases.scale_trajectory,
    mistakes=mistakes.TRAJECTORY,
    hints=(
        "Two numbers are the whole state: the scale, and how many good steps came in a row since it last changed.",
        "A broken step halves the scale and sets the counter to zero. A good one adds one to the counter.",
        "When the counter reaches `growth_interval`: double the scale, and start counting from zero again.",
    ),
    praise="This is torch.amp.GradScaler's rule, scale for scale.",
)

training_step = Exercise(
    name="training_step",
    title="Fix the loop that clips before unscaling",
    minutes=15,
    cases=cases.training_step,
    mistakes=mistakes.STEP,
    probe=cases.weights_after,
    added=3,
    same=cases.close,
    alike=cases.close,
    hints=(
        "Until they are unscaled, gradients are S times too large: any limit on their norm hits them all.",
        "`scaler.unscale_(optimizer)` divides them now; `scaler.step(optimizer)` then knows that it is done.",
        "scale and backward, `unscale_`, clip, `scaler.step(optimizer)`, `scaler.update()`, in this order.",
    ),
    praise="Scale, backward, unscale, clip, step, update.",
)

with_master = Exercise(
    name="with_master",
    title="A weight with a master",
    minutes=15,
    cases=cases.with_master,
    mistakes=mistakes.MASTER,
    hints=(
        "The master lives in FP32 and gets every update. Who reads the BF16 copy in this exercise? Nobody adds to it.",
        "Start: `master = torch.tensor(weight, dtype=torch.float32)`. Never assign the rounded weight back to it.",
        "Add all updates to the master in FP32, and cast once at the end: `master.bfloat16().item()`.",
    ),
    praise="The rounding is seen by the model and forgotten by the sum.",
)

EXERCISES = (
    share_flushed,
    largest_safe_scale,
    bytes_held,
    bits_of_result,
    scale_trajectory,
    training_step,
    with_master,
)
