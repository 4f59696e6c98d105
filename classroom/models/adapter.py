"""Save a LoRA adapter after a fine-tune, and load it onto its base again.

    save_adapter(model, "my-assistant")
    model, tokenizer = load_adapter("my-assistant", quantization="nf4")

The files are peft's; any program that uses peft can read them. Added here: checks before writing and before loading.
Left out: merging an adapter into its base.
"""

from __future__ import annotations

from pathlib import Path

from classroom.models.files import whole
from classroom.models.load import load, quiet
from classroom.models.trouble import ModelError, check_finite, check_safetensors, first_line
from coursekit.memory.config import UnknownModel, read_object, shown

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(model, folder: str | Path) -> int:
    """Write the trained matrices of a peft model to a folder, whole or not at all; returns their size in bytes.

    Raises ValueError if one of them holds a number that is not finite, SaveError if the disk is full; an adapter that
    was in the folder before is intact then.
    """
    check_trained(model)
    with whole(folder) as draft:
        model.save_pretrained(draft)
    return (Path(folder) / WEIGHTS).stat().st_size


def check_trained(model) -> None:
    """Raises ValueError that names the first trained matrix with NaN or infinity in it."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not parameter.isfinite().all():
            raise ValueError(
                f"{name} holds numbers that are not finite: the training diverged. Not saved, so an earlier "
                "adapter is unchanged. Train again with a lower learning rate."
            )


def load_adapter(folder: str | Path, name: str = "tiny", **options):
    """(model, tokenizer): the base `name` with the adapter of a folder on it; `options` as in load.load.

    Raises ModelError if a file is missing or damaged, or if the adapter was made for another base.
    """
    folder = Path(folder)
    check_adapter(folder)
    base, tokenizer = load(name, **options)
    from peft import PeftModel

    try:
        with quiet():
            model = PeftModel.from_pretrained(base, folder).eval()
    except Exception as error:  # an odd adapter_config.json can make peft raise anything
        raise ModelError(
            f"the adapter in {folder.name} does not fit on {name} ({first_line(error)[:-1]}). "
            "Load it onto the model that it was trained on."
        ) from error
    check_finite(model, f"the adapter in {folder.name}")
    return model, tokenizer


def check_adapter(folder: Path) -> None:
    """Raises ModelError if the folder lacks a file of an adapter or if one of them is damaged."""
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise ModelError(
                f"{folder} has no {file}, so it is not an adapter. Name the folder that save_adapter wrote."
            )
    check_kind(folder / CONFIG)
    check_safetensors(folder / WEIGHTS)


def check_kind(file: Path) -> None:
    """Raises ModelError if the file is not a JSON object, or names no kind of adapter that peft has."""
    from peft import PeftType

    try:
        kind = read_object(file).get("peft_type")
    except UnknownModel as error:
        raise ModelError(f"{error} Save the adapter again.") from error
    if kind not in [known.value for known in PeftType]:
        raise ModelError(
            f'{file} must say which kind of adapter it is, for example peft_type "LORA"; it says {shown(kind)}. '
            "Save the adapter again."
        )
