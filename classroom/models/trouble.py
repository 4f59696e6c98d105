"""Find what is wrong with a model, before it is loaded if possible, and explain it in words.

    check_files(Path("my-model"))           # raises ModelError if a file is missing or damaged

A message says what was expected, what came and what to do. Left out: errors that are not foreseen here; they stay the
library's own.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classroom.models.sizes import scales
from coursekit.memory.config import MOST_LAYERS, UnknownModel, read_config, shown
from coursekit.memory.ledger import nf4_bytes

GB = 10**9
TINY = Path(__file__).parent / "tiny"
# of tiny/model.safetensors; whoever makes the model anew writes the new one here
TINY_SHA256 = "96004a9bf5d8039f951a81f40d2940144969a2f67d4054758427226b6e37f15a"
OWN = 'MODEL = "tiny" is part of the course and needs no network.'


class ModelError(Exception):
    """The model cannot be loaded; the message says why and what to do."""


# ---------------------------------------------------------------- before it is loaded


def check_name(name) -> str:
    """The name as text. Raises ModelError if it is not one."""
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ModelError(
            f"name must be a text such as a folder or an id of the hub; got {shown(name)}. {OWN}"
        )
    return name


def check_device(device: str) -> None:
    """Raises ModelError for a device that torch does not know, or a GPU that it cannot use."""
    import torch

    try:
        known = isinstance(device, str) and torch.device(device)
    except RuntimeError:
        known = False
    if not known:
        raise ModelError(f'device must be a text such as "cpu", "cuda" or "cuda:1"; got {shown(device)}.')
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f'device is {device!r}, and torch finds no GPU here. Leave it out, or write device="cpu".'
        )


def check_place(name: str) -> None:
    """Raises ModelError if the name is a path and there is no such folder."""
    looks_like_path = name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or "\\" in name
    if looks_like_path and not os.path.isdir(os.path.expanduser(name)):
        raise ModelError(
            f"there is no folder {name}, seen from {os.getcwd()}. Name a folder that exists. {OWN}"
        )


def check_bitsandbytes(quantization: str, device: str) -> None:
    """Raises ModelError if bitsandbytes is not installed, or cannot quantise anything on the device."""
    without = "Without it the model loads with quantization=None."
    try:
        _quantise_something(quantization, device)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"quantization={quantization!r} needs {error.name}, which is not installed: pip install {error.name} "
            f"(in a notebook %pip install {error.name}, then restart its kernel). {without}"
        ) from error
    except Exception as error:  # a library that does not fit the machine may raise anything
        raise ModelError(
            f"quantization={quantization!r} needs bitsandbytes, which is installed but does not work on {device}: "
            f"{first_line(error)} Install it again: pip install --force-reinstall bitsandbytes. {without}"
        ) from error


def _quantise_something(quantization: str, device: str) -> None:
    import torch
    from bitsandbytes import functional

    zeros = torch.zeros(1, 64, dtype=torch.float16, device=device)
    if quantization == "int8":
        functional.int8_vectorwise_quant(zeros)
    else:
        functional.quantize_4bit(zeros, quant_type=quantization, compress_statistics=True)


def check_own() -> None:
    """Raises ModelError if the weights of the embedded model are not those that the course was made with."""
    if hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest() != TINY_SHA256:
        raise ModelError(
            "model.safetensors of the embedded model is not the one that belongs to the course: some of its bytes have "
            "changed. Get it back with: git checkout classroom/models/tiny"
        )


def check_files(folder: Path) -> None:
    """Raises ModelError if the folder lacks a file, or if one is damaged or cannot be read to its end."""
    for file in sorted(folder.iterdir()):
        if not (file.is_file() or file.is_dir()):  # a library would wait forever for a pipe
            raise ModelError(f"{file} is not a regular file or a link to one. Copy the model's files again.")
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json, so it is not a model folder. Name the folder that has it."
        )
    check_config(folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{folder} has no .safetensors file: the weights are missing. Copy or train them again."
        )
    for file in files:
        check_safetensors(file)


def check_config(file: Path) -> None:
    """Raises ModelError if the file is not an object, or asks for so many layers that making them would take hours."""
    try:
        config = read_config(file)
    except UnknownModel as error:
        raise ModelError(f"{error} Copy it again.") from error
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise ModelError(
            f"{file} asks for {shown(layers)} layers; {MOST_LAYERS:,} are the most. Copy it again."
        )


def check_safetensors(file: Path) -> None:
    """Reads the header only. Raises ModelError if the file is cut off or is not a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        own = file.parent == TINY
        raise ModelError(
            f"{file.name} is damaged ({error}; {file.stat().st_size:,} bytes). "
            + ("Get it back with: git checkout classroom/models/tiny" if own else "Copy it again.")
        ) from error


def check_memory(config, dtype, device: str, quantization: str | None, name: str) -> None:
    """Raises ModelError if the weights alone are larger than the memory that is free. Nothing is downloaded for it."""
    needed, free = weight_bytes(config, dtype, quantization), free_bytes(device)
    if needed > free:
        less = "" if quantization else 'load it with quantization="nf4", '
        raise ModelError(
            f"the weights of {name} need {needed / GB:.1f} GB, {free / GB:.1f} GB are free on {device}. "
            f"Take a smaller model, {less}or close other programs."
        )


def weight_bytes(config, dtype, quantization: str | None) -> int:
    """Bytes of the weights in memory, counted on a model without storage. The head is never quantised."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    head = model.get_output_embeddings()
    linear = sum(
        m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head
    )
    others = sum(p.numel() for p in model.parameters()) - linear
    return others * dtype.itemsize + _linear_bytes(linear, dtype, quantization)


def _linear_bytes(weights: int, dtype, quantization: str | None) -> int:
    if quantization is None:
        return weights * dtype.itemsize
    return weights if quantization == "int8" else nf4_bytes(weights)  # FP4 takes as many bytes as NF4


def free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


# ---------------------------------------------------------------- after


def check_complete(loading: dict, name: str, local: bool) -> None:
    """Raises ModelError if weights were missing, or in a folder too many: transformers fills the first with random
    numbers, leaves the others out, and goes on. For a model of the hub too many are only a warning: some have parts
    that a causal language model does not use, such as a vision encoder."""
    missing, unexpected = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
    foreign = "config.json and the weights do not belong together. Take both from the same place."
    if missing:
        raise ModelError(
            f"{len(missing)} weights of {name} are not in its files, {missing[0]} the first: {foreign}"
        )
    if unexpected:
        first = f"{unexpected[0]} the first"
        too_many = f"{len(unexpected)} weights in the files of {name} have no place in the model, {first}"
        if local:
            raise ModelError(f"{too_many}: {foreign}")
        warnings.warn(f"{too_many}; they are left out.", stacklevel=2)


def check_finite(model, name: str) -> None:
    """Raises ModelError that names the first weight with NaN or infinity in it, or in the scales of its codes."""
    for weight, parameter in model.named_parameters():
        if not all(values.isfinite().all() for values in _numbers(parameter)):
            raise ModelError(
                f"{weight} of {name} holds numbers that are not finite, so every answer would be NaN: the file is "
                "damaged, or its training diverged. Copy it again."
            )


def _numbers(parameter) -> Iterator:
    """Yield the floating-point tensors of a weight: itself, or the scales that bitsandbytes keeps for its codes."""
    of_rows = getattr(parameter, "SCB", None)  # scales of 8-bit codes
    for values in (parameter, of_rows, *scales(parameter)):
        if values is not None and values.is_floating_point() and not values.is_meta:
            yield values


def check_tokenizer(model, tokenizer, name: str) -> None:
    """Raises ModelError if the tokenizer produces ids for which the model has no embedding."""
    highest = max(tokenizer.get_vocab().values())
    rows = model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise ModelError(
            f"the tokenizer of {name} makes ids up to {highest}, the model has embeddings for {rows}: they do "
            "not belong together. Take both from the same place."
        )


# ---------------------------------------------------------------- what the libraries say


@contextmanager
def explained(name: str, part: str, local: bool = False) -> Iterator[None]:
    """Explain the errors of the hub and of damaged files in words; `part` says what is being loaded.

    local   it comes from a folder, so any error that the libraries raise is about the content of the files
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if not local and not isinstance(error, (OSError, ValueError, RuntimeError, ImportError)):
            raise
        said = f"{error} {error.__cause__ or ''}".lower()
        of_the_hub = None if local else hub_reason(name, said)
        raise ModelError(of_the_hub or reason(name, part, error, said, local)) from error


def hub_reason(name: str, said: str) -> str | None:
    """What the hub's refusal means; None if it was not the hub."""
    if "gated" in said or "401" in said or "403" in said:
        return (
            f"{name} is gated: its owner asks you to accept a licence. Accept it on the model's page, then log in with "
            f"`hf auth login`. {OWN}"
        )
    if "offline" in said or "connect" in said or "couldn't reach" in said or "resolve" in said:
        return (
            f"{name} is not on this machine, and the hub cannot be reached. Go online once to fetch it, or name a "
            f"local folder. {OWN}"
        )
    return None


def reason(name: str, part: str, error: Exception, said: str, local: bool) -> str:
    """What an error of the libraries means; `said` is its whole text in lower case."""
    if "mismatched" in said:
        return (
            f"the weights of {name} have other sizes than its config.json says (the table above names them). Take "
            "both from the same place."
        )
    if "out of memory" in said or "not enough memory" in said:
        return f"ran out of memory while loading {name}. Take a smaller model, or close other programs."
    if "bitsandbytes" in said:
        return (
            f"bitsandbytes cannot quantise {name} here: {first_line(error)} Load it with quantization=None."
        )
    if part == "tokenizer":
        return f"the tokenizer of {name} is missing or damaged: {first_line(error)} Copy its files again."
    remedy = (
        "Look for that in its config.json, or copy its files again."
        if local
        else "Check the name, or the files it stands for."
    )
    return f"{name} could not be loaded: {first_line(error)} {remedy}"


def first_line(error: Exception) -> str:
    """The first line with content, with a full stop; the kind of error too if that line is a single word."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    headed = lines[0].endswith(":") and len(lines) > 1  # huggingface_hub: "Validation error for field 'x':"
    line = re.sub(r"^\w+Error: ", "", lines[1]) if headed else lines[0].rstrip(" :")
    if " " not in line:
        line = f"{type(error).__name__} {line}".rstrip()
    return line if line.endswith(".") else line + "."
