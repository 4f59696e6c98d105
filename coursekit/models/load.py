"""Load a causal language model and its tokenizer: the embedded one, a local folder, or any model of the hub.

    model, tokenizer = load("tiny")
    model, tokenizer = load("HuggingFaceTB/SmolLM2-135M", dtype="bfloat16", quantization="nf4")

One call for all, so that a notebook runs unchanged with another `MODEL`. What can go wrong on the way (no network, a
gated model, a damaged file, too little memory) is answered in a sentence that says what to do; everything else is
transformers'.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

TINY = Path(__file__).parent / "tiny"
QUANTIZATIONS = ("nf4", "fp4", "int8")
GB = 10**9


class ModelError(Exception):
    """The model cannot be loaded; the message says why and what to do."""


def load(
    name: str = "tiny",
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
):
    """(model, tokenizer), the model in evaluation mode.

    name          "tiny", a folder, or an id of the hub such as "HuggingFaceTB/SmolLM2-135M"
    device        default: the first GPU if there is one, else the CPU
    dtype         "float32", "bfloat16" or "float16"; default: float32 on a CPU, bfloat16 on a GPU
    quantization  "nf4" or "fp4" (4 bits, double quantisation) or "int8", by bitsandbytes; None: not quantised

    Raises ModelError with the remedy if the model cannot be had, does not fit or is damaged, ValueError for an unknown
    dtype or quantization.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = _dtype(dtype or ("float32" if device == "cpu" else "bfloat16"))
    if quantization not in (None, *QUANTIZATIONS):
        raise ValueError(
            f"quantization must be None or one of {', '.join(QUANTIZATIONS)}; got {quantization!r}."
        )
    place = str(TINY) if name == "tiny" else name
    if os.path.isdir(place):
        check_files(Path(place))
        check_memory(weight_bytes(Path(place)), name, device)
    with quiet(progress=name != "tiny"):
        model = _explained(name, _load_model, place, dtype, device, quantization)
        tokenizer = _explained(name, _load_tokenizer, place)
    check_tokenizer(model, tokenizer, name)
    keep_trainable(model)
    return model.eval(), tokenizer


def keep_trainable(model) -> None:
    """Stop bitsandbytes from repacking 4-bit weights when they generate on a CPU.

    On processors with AVX512-BF16, release 0.50 packs them for a kernel through which no gradient passes, without a
    word: a model that had chatted once no longer learned. Its way back rounds the block scales through BF16. Without
    the packing every CPU computes alike, and the embedded model generates no slower.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


@contextmanager
def quiet(progress: bool = True):
    """Without what the libraries say to each other: missing optional kernels, names that will change. They read like
    errors and are none.

    progress  False: no progress bar either, for a model that loads in a blink
    """
    from transformers.utils import logging as bars

    loggers = [logging.getLogger(name) for name in ("torchao", "bitsandbytes", "torch.utils._pytree")]
    levels, shown = [logger.level for logger in loggers], bars.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if not progress:
        bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()


def _load_model(place: str, dtype, device: str, quantization: str | None):
    from transformers import AutoModelForCausalLM

    config = _quantization_config(quantization, dtype) if quantization else None
    return AutoModelForCausalLM.from_pretrained(
        place, dtype=dtype, quantization_config=config, device_map={"": device} if config else None
    ).to(device if config is None else None)


def _load_tokenizer(place: str):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place)


def _quantization_config(quantization: str, dtype):
    """The library's own record; the settings are those of the QLoRA paper (Dettmers et al. 2023, section 3)."""
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"quantization={quantization!r} needs bitsandbytes, which is not installed: pip install bitsandbytes. "
            "Without it the model loads with quantization=None."
        )
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _dtype(name: str):
    import torch

    if name not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype must be float32, bfloat16 or float16; got {name!r}.")
    return getattr(torch, name)


# ---------------------------------------------------------------- what is wrong, said before or after


def check_files(folder: Path) -> None:
    """Raises ModelError if the folder lacks a file or a safetensors file is damaged."""
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{folder} holds no config.json, so it is no model folder. Name the folder that has it."
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{folder} holds no .safetensors file: the weights are missing. Copy or train them again."
        )
    for file in files:
        check_safetensors(file)


def check_safetensors(file: Path) -> None:
    """Reads the header only. Raises ModelError if the file is cut off or is no safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file.name} is damaged ({error}; {file.stat().st_size:,} bytes). Copy it again from where it "
            "came; in the course's own folder: git checkout coursekit/models/tiny."
        ) from error


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def check_memory(needed_bytes: int, name: str, device: str) -> None:
    """Raises ModelError if the weights alone are larger than the memory that is free."""
    free = _free_bytes(device)
    if needed_bytes > free:
        raise ModelError(
            f"the weights of {name} take {needed_bytes / GB:.1f} GB, {free / GB:.1f} GB are free on {device}. "
            'Take a smaller model, close other programs, or load it with quantization="nf4".'
        )


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def check_tokenizer(model, tokenizer, name: str) -> None:
    """Raises ModelError if the tokenizer makes ids for which the model has no embedding."""
    rows, highest = model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values())
    if model.config.vocab_size <= highest:
        raise ModelError(
            f"the tokenizer of {name} makes ids up to {highest}, the model has embeddings for "
            f"{model.config.vocab_size} ({rows} rows): they do not belong together. Take both from the same folder."
        )


def _explained(name: str, load_part, *arguments):
    """load_part(*arguments), with the errors of the hub put into words."""
    try:
        return load_part(*arguments)
    except OSError as error:
        raise ModelError(_reason(name, error)) from error


def _reason(name: str, error: OSError) -> str:
    said = f"{error} {error.__cause__ or ''}".lower()
    if "gated" in said or "401" in said or "403" in said:
        return (
            f"{name} is gated: its owner asks you to accept a licence. Accept it on the model's page, then log in with "
            '`hf auth login`. MODEL = "tiny" needs neither.'
        )
    if "offline" in said or "connect" in said or "couldn't reach" in said or "resolve" in said:
        return (
            f"{name} is not on this machine, and the hub cannot be reached. Go online once to fetch it, name a "
            'local folder, or take MODEL = "tiny", which is part of the course.'
        )
    return f"{name} could not be loaded: {str(error).splitlines()[0]} Check the name, or the folder it stands for."
