"""Load a causal language model and its tokenizer: the embedded one, a local folder, or any model of the hub.

    model, tokenizer = load("tiny")
    model, tokenizer = load("HuggingFaceTB/SmolLM2-135M", dtype="bfloat16", quantization="nf4")

One call for all, so that a notebook runs unchanged with another `MODEL`. If something goes wrong (no network, a gated
model, a damaged file, too little memory) a sentence says what to do (`trouble`); everything else is transformers'.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

from classroom.models import trouble

TINY = trouble.TINY
QUANTIZATIONS = ("nf4", "fp4", "int8")


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

    Raises trouble.ModelError with the remedy if the model cannot be found, does not fit or is damaged; ValueError for
    an unknown dtype or quantization.
    """
    name, device = trouble.check_name(name), device or default_device()
    dtype = _dtype(dtype or ("float32" if device == "cpu" else "bfloat16"))
    if quantization not in (None, *QUANTIZATIONS):
        raise ValueError(
            f"quantization must be None or one of {', '.join(QUANTIZATIONS)}; got {quantization!r}."
        )
    trouble.check_device(device)
    trouble.check_place(name)
    place = str(TINY) if name == "tiny" else os.path.expanduser(name)
    if os.path.isdir(place):
        trouble.check_files(Path(place))
    if name == "tiny":
        trouble.check_own()
    with quiet(progress=name != "tiny"):
        if quantization:
            trouble.check_bitsandbytes(quantization, device)
        model, tokenizer = _load(name, place, dtype, device, quantization)
    trouble.check_tokenizer(model, tokenizer, name)
    trouble.check_finite(model, name)
    keep_trainable(model)
    return model.eval(), tokenizer


def default_device() -> str:
    """The first GPU if there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(name: str, place: str, dtype, device: str, quantization: str | None):
    from transformers import AutoConfig, AutoTokenizer

    local = os.path.isdir(place)
    here = {"local_files_only": local or not hub_answers()}
    with trouble.explained(name, "model", local):
        config = AutoConfig.from_pretrained(place, **here)
        trouble.check_memory(config, dtype, device, quantization, name)
        model, loading = _load_model(place, dtype, device, quantization, here)
    trouble.check_complete(loading, name, local)
    with trouble.explained(name, "tokenizer", local):
        return model, AutoTokenizer.from_pretrained(place, **here)


def hub_answers(seconds: float = 3.0) -> bool:
    """Whether the hub can be reached. Asked first, because the hub's own client keeps trying for most of a minute."""
    import socket
    import urllib.parse
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True  # only the proxy knows
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout=seconds).close()
    except OSError:
        return False
    return True


def keep_trainable(model) -> None:
    """Stop bitsandbytes from repacking 4-bit weights when they generate on a CPU.

    On processors with AVX512-BF16, release 0.50 silently packs them for a kernel through which no gradient passes: a
    model that had chatted once no longer learned. Unpacking rounds the block scales to BF16. Without the packing every
    CPU computes the same, and the embedded model generates as fast.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def checkpointing(model):
    """Switch on the library's gradient checkpointing of every block, and switch off the key-value cache, which would be
    filled for nothing. Returns the model."""
    import inspect

    model.config.use_cache = False
    newer = getattr(model, "activation_checkpointing_enable", None)  # the name since transformers 5.20
    enable = newer or model.gradient_checkpointing_enable
    name = next(iter(inspect.signature(enable).parameters))
    enable(**{name: {"use_reentrant": False}})
    return model


@contextmanager
def quiet(progress: bool = True):
    """Hide what the libraries log about each other: missing optional kernels, names that will change. They look like
    errors but are not.

    progress  False: hide the progress bar too, for a model that loads in a moment
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


def _load_model(place: str, dtype, device: str, quantization: str | None, options: dict):
    """(model, what transformers says about the weights that it found)."""
    from transformers import AutoModelForCausalLM

    config = _quantization_config(quantization, dtype) if quantization else None
    model, loading = AutoModelForCausalLM.from_pretrained(
        place,
        dtype=dtype,
        quantization_config=config,
        device_map={"": device} if config else None,
        output_loading_info=True,
        **options,
    )
    return model.to(device if config is None else None), loading


def _quantization_config(quantization: str, dtype):
    """The library's own record; the settings are those of the QLoRA paper (Dettmers et al. 2023, section 3)."""
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
