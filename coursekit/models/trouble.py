"""What can be wrong with a model, found before it is loaded where that is possible, and said in words.

A student reads: what was expected, what came, what to do. Whatever is not foreseen here stays the library's own error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GB = 10**9
BITS = {"nf4": 4.127, "fp4": 4.127, "int8": 8}  # a weight of a linear layer, scales included
OWN = 'MODEL = "tiny" is part of the course and needs no network.'


class ModelError(Exception):
    """The model cannot be loaded; the message says why and what to do."""


# ---------------------------------------------------------------- before it is loaded


def check_device(device: str) -> None:
    """Raises ModelError for a GPU that torch cannot use."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f'device is {device!r}, and torch finds no GPU here. Leave it out, or write device="cpu".'
        )


def check_place(name: str) -> None:
    """Raises ModelError if the name is a path and there is no such folder."""
    looks_like_path = name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or "\\" in name
    if looks_like_path and not os.path.isdir(os.path.expanduser(name)):
        raise ModelError(
            f"there is no folder {name}; this is {os.getcwd()}. Name a folder that exists. {OWN}"
        )


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
        own = file.parent == Path(__file__).parent / "tiny"
        raise ModelError(
            f"{file.name} is damaged ({error}; {file.stat().st_size:,} bytes). "
            + ("Get it back with: git checkout coursekit/models/tiny" if own else "Copy it again.")
        ) from error


def check_memory(config, dtype, device: str, quantization: str | None, name: str) -> None:
    """Raises ModelError if the weights alone are larger than the memory that is free. Nothing is downloaded for it."""
    needed, free = weight_bytes(config, dtype, quantization), free_bytes(device)
    if needed > free:
        less = "" if quantization else 'load it with quantization="nf4", '
        raise ModelError(
            f"the weights of {name} take {needed / GB:.1f} GB, {free / GB:.1f} GB are free on {device}. "
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
    bits = BITS.get(quantization, 8 * dtype.itemsize)
    return round(others * dtype.itemsize + linear * bits / 8)


def free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


# ---------------------------------------------------------------- after


def check_complete(loading: dict, name: str) -> None:
    """Raises ModelError if weights were missing: transformers fills them with random numbers and goes on."""
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ModelError(
            f"{len(missing)} weights of {name} are not in its files, {missing[0]} the first: config.json and the "
            "weights do not belong together. Take both from the same place."
        )


def check_tokenizer(model, tokenizer, name: str) -> None:
    """Raises ModelError if the tokenizer makes ids for which the model has no embedding."""
    highest = max(tokenizer.get_vocab().values())
    rows = model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise ModelError(
            f"the tokenizer of {name} makes ids up to {highest}, the model has embeddings for {rows}: they do "
            "not belong together. Take both from the same place."
        )


# ---------------------------------------------------------------- what the libraries say


@contextmanager
def explained(name: str, part: str) -> Iterator[None]:
    """Puts the errors of the hub and of damaged files into words; `part` says what is being loaded."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(reason(name, part, error)) from error


def reason(name: str, part: str, error: Exception) -> str:
    said = f"{error} {error.__cause__ or ''}".lower()
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
    if "mismatched" in said:
        return (
            f"the weights of {name} have other sizes than its config.json says (the table above names them). Take "
            "both from the same place."
        )
    if "out of memory" in said or "not enough memory" in said:
        return f"the memory ended while {name} was loaded. Take a smaller model, or close other programs."
    if part == "tokenizer":
        return f"the tokenizer of {name} is missing or damaged: {first_line(error)} Copy its files again."
    return f"{name} could not be loaded: {first_line(error)} Check the name, or the files it stands for."


def first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(" :")
    return line if line.endswith(".") else line + "."
