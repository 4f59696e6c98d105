"""Configs that nobody meant to write: each is answered with a sentence, quickly, and with the status of a bad input."""

import json
import os

import pytest
from click.testing import CliRunner

from classroom.cli import main
from coursekit.memory.architecture import MOST_LAYERS, UnknownModel, architecture_of, from_config, presets
from coursekit.memory.config import LARGEST_FILE, read_config, shown

LLAMA = presets()["llama-3-8b"]
GPT2 = presets()["gpt2"]
MIXTRAL = presets()["mixtral-8x7b"]
QWEN_MOE = presets()["qwen3-30b-a3b"]
PHI = presets()["phi-3-mini"]
GEMMA = presets()["gemma-2-2b"]
NUMBER = "must be a whole number from 1 to"
FLAG = "must be true or false, without quotes; the config says"

FIELDS = {  # what is changed, and what is said
    "hidden_act a list": (LLAMA, {"hidden_act": ["silu"]}, r"hidden_act must be a name in quotes; .* \['silu'\]"),
    "hidden_act a number": (LLAMA, {"hidden_act": 3}, "hidden_act must be a name in quotes; the config says 3"),
    "n_positions text": (GPT2, {"n_positions": "x"}, f"n_positions {NUMBER} 1,000,000,000; the config says 'x'"),
    "n_positions zero": (GPT2, {"n_positions": 0}, f"n_positions {NUMBER}"),
    "n_inner negative": (GPT2, {"n_inner": -5}, f"n_inner {NUMBER} .* says -5"),
    "n_embd null": (GPT2, {"n_embd": None}, "this gpt2 config lacks 'n_embd'; pass the whole config.json"),
    "n_head does not divide": (GPT2, {"n_head": 7}, "768 cannot be divided among 7 heads"),
    "attn_pdrop above 1": (GPT2, {"attn_pdrop": 1.5}, "attn_pdrop must be a number from 0 to 1; the config says 1.5"),
    "experts negative": (MIXTRAL, {"num_local_experts": -8}, f"num_local_experts {NUMBER} .* says -8"),
    "experts text": (MIXTRAL, {"num_local_experts": "8"}, f"num_local_experts {NUMBER} .* says '8'"),
    "experts of a token 200 of 8": (MIXTRAL, {"num_experts_per_tok": 200}, "cannot go to 200 of 8 experts"),
    "experts of a token zero": (MIXTRAL, {"num_experts_per_tok": 0}, f"num_experts_per_tok {NUMBER}"),
    "experts missing": (MIXTRAL, {"num_local_experts": None}, "this mixtral config lacks 'num_experts'"),
    "model_type a list": (LLAMA, {"model_type": ["llama"]}, r"model_type=\['llama'\]"),
    "model_type an object": (LLAMA, {"model_type": {"a": 1}}, "model_type={'a': 1}"),
    "model_type null": (LLAMA, {"model_type": None}, "model_type=None is not a family that the planner knows"),
    "model_type unknown": (LLAMA, {"model_type": "bert"}, "model_type='bert' is not a family.*built like one of these"),
    "mlp_only_layers a number": (QWEN_MOE, {"mlp_only_layers": 3}, "must be a list of layers, each from 0 to 47; .* 3"),
    "mlp_only_layers text": (QWEN_MOE, {"mlp_only_layers": "abc"}, "must be a list of layers.* says 'abc'"),
    "mlp_only_layers of text": (QWEN_MOE, {"mlp_only_layers": ["a"]}, "must be a list of layers"),
    "mlp_only_layers outside": (QWEN_MOE, {"mlp_only_layers": [99]}, r"must be a list of layers.* says \[99\]"),
    "mlp_only_layers nested": (QWEN_MOE, {"mlp_only_layers": [[0]]}, "must be a list of layers"),
    "decoder_sparse_step text": (QWEN_MOE, {"decoder_sparse_step": "x"}, f"decoder_sparse_step {NUMBER}"),
    "decoder_sparse_step zero": (QWEN_MOE, {"decoder_sparse_step": 0}, f"decoder_sparse_step {NUMBER}"),
    "tie text": (LLAMA, {"tie_word_embeddings": "false"}, f"tie_word_embeddings {FLAG} 'false'"),
    "tie a number": (LLAMA, {"tie_word_embeddings": 1}, f"tie_word_embeddings {FLAG} 1"),
    "attention_bias text": (LLAMA, {"attention_bias": "yes"}, f"attention_bias {FLAG} 'yes'"),
    "mlp_bias a list": (LLAMA, {"mlp_bias": []}, f"mlp_bias {FLAG}"),
    "attention_dropout text": (LLAMA, {"attention_dropout": "x"}, "attention_dropout must be a number from 0 to 1"),
    "attention_dropout NaN": (LLAMA, {"attention_dropout": float("nan")}, "attention_dropout must be .* says nan"),
    "attention_dropout true": (LLAMA, {"attention_dropout": True}, "attention_dropout must be a number"),
    "resid_pdrop an object": (PHI, {"resid_pdrop": {}}, "resid_pdrop must be a number from 0 to 1"),
    "rotary factor text": (PHI, {"partial_rotary_factor": "x"}, "partial_rotary_factor must be a number from 0 to 1"),
    "softcap text": (GEMMA, {"attn_logit_softcapping": "x"}, "must be a positive number or null; the config says 'x'"),
    "hidden_size text": (LLAMA, {"hidden_size": "4096"}, f"hidden_size {NUMBER} .* says '4096'"),
    "hidden_size a float": (LLAMA, {"hidden_size": 4096.0}, f"hidden_size {NUMBER} .* says 4096.0"),
    "hidden_size infinite": (LLAMA, {"hidden_size": float("inf")}, f"hidden_size {NUMBER} .* says inf"),
    "hidden_size NaN": (LLAMA, {"hidden_size": float("nan")}, f"hidden_size {NUMBER} .* says nan"),
    "hidden_size nested": (LLAMA, {"hidden_size": {"value": 4096}}, f"hidden_size {NUMBER} .* says {{'value': 4096}}"),
    "hidden_size true": (LLAMA, {"hidden_size": True}, f"hidden_size {NUMBER} .* says True"),
    "hidden_size huge": (LLAMA, {"hidden_size": 10**30}, f"hidden_size {NUMBER} .* says 1000000000"),
    "heads zero": (LLAMA, {"num_attention_heads": 0}, f"num_attention_heads {NUMBER} .* says 0"),
    "heads do not divide": (LLAMA, {"num_attention_heads": 7}, "4,096 cannot be divided among 7 heads"),
    "heads more than width": (LLAMA, {"hidden_size": 16}, "16 cannot be divided among 32 heads"),
    "kv heads zero": (LLAMA, {"num_key_value_heads": 0}, f"num_key_value_heads {NUMBER}"),
    "kv heads do not divide": (LLAMA, {"num_key_value_heads": 5}, "32 heads cannot share 5 key-value heads"),
    "head_dim text": (LLAMA, {"head_dim": "128"}, f"head_dim {NUMBER}"),
    "vocabulary zero": (LLAMA, {"vocab_size": 0}, f"vocab_size {NUMBER} .* says 0"),
    "layers negative": (LLAMA, {"num_hidden_layers": -1}, f"num_hidden_layers {NUMBER} 10,000; the config says -1"),
    "layers 10^5": (LLAMA, {"num_hidden_layers": 10**5}, f"num_hidden_layers {NUMBER} 10,000; the config says 100000"),
    "layers 10^6 of a mixture": (QWEN_MOE, {"num_hidden_layers": 10**6}, f"num_hidden_layers {NUMBER} 10,000"),
    "layers 10^9": (GPT2, {"n_layer": 10**9}, f"n_layer {NUMBER} 10,000"),
    "layers missing": (LLAMA, {"num_hidden_layers": None}, "this llama config lacks 'num_hidden_layers'"),
}  # fmt: skip

FILES = {  # what the file holds, and what is said
    "empty": (b"", r"it is not JSON \(Expecting value: line 1, column 1\)"),
    "no JSON": (b"{ not json", "it is not JSON"),
    "cut off": (json.dumps(LLAMA).encode()[:-9], "it is not JSON"),
    "an array": (b"[1, 2]", r"expected an object {...}, it holds \[1, 2\]"),
    "an empty array": (b"[]", r"expected an object {...}, it holds \[\]"),
    "a number": (b"5", "expected an object {...}, it holds 5"),
    "null": (b"null", "expected an object {...}, it holds None"),
    "text": (b'"llama"', "expected an object {...}, it holds 'llama'"),
    "an empty object": (b"{}", "model_type=None"),
    "binary": (bytes(range(128, 256)), "byte 1 is not UTF-8; save the file as UTF-8"),
    "zero bytes": (bytes(100), "it is not JSON"),
    "UTF-16": (json.dumps(LLAMA).encode("utf-16"), "byte 1 is not UTF-8"),
    "100,000 brackets": (b"[" * 100_000, "its brackets are nested too deeply"),
    "100,000 objects": (b'{"a":' * 100_000, "its brackets are nested too deeply"),
    "5,000 digits": (b'{"hidden_size": ' + b"9" * 5000 + b"}", "one of its numbers has thousands of digits"),
    "11 MB": (b" " * (LARGEST_FILE + 1), "it is larger than 10 MB; a config has a few kB"),
}


def asked(path) -> tuple[int, str]:
    """(status, what is printed) of `coursekit plan PATH --gpu 24`; an exception that is no exit is not swallowed."""
    result = CliRunner().invoke(main, ["plan", str(path), "--gpu", "24"], catch_exceptions=False)
    return result.exit_code, result.output


@pytest.mark.parametrize(("config", "changes", "words"), FIELDS.values(), ids=FIELDS)
def test_a_wrong_field_is_named_with_what_came(tmp_path, config, changes, words):
    """From a dictionary and from a file, by the planner and by its command."""
    with pytest.raises(UnknownModel, match=words):
        architecture_of(config | changes)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config | changes))
    status, said = asked(file)
    assert status == 2 and said.startswith("Error: ") and said.count("\n") == 1


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_config_is_named(tmp_path, content, words):
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(UnknownModel, match=words):
        architecture_of(file)
    status, said = asked(tmp_path)
    assert status == 2 and said.startswith("Error: ") and said.count("\n") == 1


def test_what_is_no_regular_file_is_not_read(tmp_path):
    """/dev/zero never ends, and a pipe that nobody writes to never begins; Windows has neither."""
    (tmp_path / "folder" / "config.json").mkdir(parents=True)
    paths = [tmp_path / "folder"]
    if os.name == "posix":
        os.mkfifo(tmp_path / "config.json")
        (tmp_path / "zero").symlink_to("/dev/zero")
        paths += [tmp_path, tmp_path / "zero", "/dev/zero", "/dev/null"]
    for path in paths:
        status, said = asked(path)
        assert status == 2 and "it is not a regular file; name one, or the folder" in said


def test_a_name_that_is_no_text_is_printed(tmp_path):
    with pytest.raises(UnknownModel, match=r"\\udcff\.json is not a config"):
        read_config(tmp_path / "\udcff.json")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "~nobody-of-that-name/config.json", "\udcff"])
def test_a_name_that_no_file_can_have_is_an_unknown_model(name):
    with pytest.raises(UnknownModel, match=r"is not a preset, and there is no such file"):
        architecture_of(name)


@pytest.mark.parametrize("model", [None, 5, [1], b"gpt2", object(), dict])
def test_what_is_no_model_at_all_is_refused(model):
    with pytest.raises(
        UnknownModel, match=r"a model must be a preset, a config\.json, its folder, a config or"
    ):
        architecture_of(model)


def test_a_byte_order_mark_is_ignored(tmp_path):
    """Windows' editor writes one."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8-sig")
    assert architecture_of(tmp_path) == architecture_of("llama-3-8b")


@pytest.mark.parametrize(
    "field", ["head_dim", "num_key_value_heads", "hidden_act", "attention_dropout", "mlp_bias"]
)
def test_null_is_the_default(field):
    assert from_config(LLAMA | {field: None, "num_key_value_heads": 8}) == from_config(
        LLAMA | {"num_key_value_heads": 8}
    )


def test_a_config_at_the_edge_is_not_refused():
    assert from_config(LLAMA | {"num_hidden_layers": MOST_LAYERS, "vocab_size": 10**9}).layers == MOST_LAYERS
    assert from_config(QWEN_MOE | {"mlp_only_layers": [0, 47], "num_experts_per_tok": 128}).dense_layers == (
        0,
        47,
    )


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


def test_whatever_came_can_be_shown():
    """A list that holds itself, an integer that Python refuses to print, a value whose own words fail."""
    endless = []
    endless.append(endless)
    assert shown(endless) == "[[[[[[[...]]]]]]]"
    assert shown(10**5000) and shown({"a": 10**5000})  # what it says depends on Python's release
    assert "Unprintable" in shown(Unprintable())
    assert len(shown("x" * 10**6)) < 100 and len(shown([10**40] * 10**6)) < 400
