"""Parameter counts: names, shapes and sums beside those of transformers' classes on the meta device."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.memory.architecture import (
    FAMILIES,
    Architecture,
    UnknownModel,
    active,
    architecture_of,
    from_config,
    layer_weights,
    linear_layers,
    parameter_count,
    presets,
    weights,
)

PUBLISHED = {  # of the model cards and papers, to the unit where they give it
    "llama-2-7b": 6_738_415_616,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "phi-3-mini": 3_821_079_552,
    "gpt2": 124_439_808,
}


def listed(model):
    return [(name, tuple(p.shape)) for name, p in model.named_parameters()]


def test_presets_are_many():
    """At least 25 models of at least 8 families."""
    assert len(presets()) >= 25
    assert len({config["model_type"] for config in presets().values()}) >= 8


@pytest.mark.parametrize("name", presets())
def test_every_weight_equals_transformers(name, config_of, on_meta):
    """The same names and shapes in the same order; the sum counts a tied head once."""
    model = on_meta(config_of(name))
    architecture = architecture_of(name)
    assert [(w.name, w.shape) for w in weights(architecture)] == listed(model)
    assert parameter_count(architecture) == sum(p.numel() for p in model.parameters())
    assert from_config(model.config) == architecture  # a config object says what the preset's dictionary says


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_published_counts(name, parameters):
    assert parameter_count(architecture_of(name)) == parameters


@st.composite
def configs(draw):
    """A tiny config with every quirk on or off."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    kv, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads, head_dim = kv * groups, draw(st.sampled_from((4, 8)))
    values = {
        "model_type": family,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "hidden_size": heads * draw(st.sampled_from((4, 12))) if family != "phi3" else heads * head_dim,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": draw(st.integers(3, 20)),
        "vocab_size": draw(st.integers(10, 60)),
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family == "gpt2":
        inner = draw(st.sampled_from((None, 7)))
        return {
            "model_type": family,
            "n_layer": values["num_hidden_layers"],
            "n_embd": values["hidden_size"],
            "n_head": heads,
            "n_positions": draw(st.integers(1, 30)),
            "n_inner": inner,
            "vocab_size": values["vocab_size"],
            "tie_word_embeddings": values["tie_word_embeddings"],
        }
    if family not in ("phi3", "mixtral"):
        values["head_dim"] = head_dim
    if family in ("llama", "qwen3", "smollm3", "gemma", "gemma2", "qwen3_moe"):
        values["attention_bias"] = draw(st.booleans())
    if family in ("llama", "smollm3"):
        values["mlp_bias"] = draw(st.booleans())
    if family == "mixtral":
        values |= {"num_local_experts": draw(st.integers(2, 4)), "num_experts_per_tok": 2}
    if family == "qwen3_moe":
        values |= {
            "num_experts": draw(st.integers(2, 4)),
            "num_experts_per_tok": draw(st.integers(1, 2)),
            "moe_intermediate_size": draw(st.integers(3, 9)),
            "decoder_sparse_step": draw(st.integers(1, 3)),
            "mlp_only_layers": draw(st.sampled_from(([], [0]))),
        }
    return values


@settings(max_examples=60, deadline=None)
@given(values=configs())
def test_any_config_equals_transformers(values, on_meta):
    """Biases, tied heads, heads narrower or wider than h / a, shared keys, experts: whatever a config switches on."""
    from transformers import CONFIG_MAPPING

    settings = dict(values)
    model = on_meta(CONFIG_MAPPING[settings.pop("model_type")](**settings))
    ours = from_config(values)
    assert [(w.name, w.shape) for w in weights(ours)] == listed(model)
    assert from_config(model.config) == ours


@pytest.mark.parametrize(("name", "billions"), [("mixtral-8x7b", 12.9), ("qwen3-30b-a3b", 3.3)])
def test_active_parameters_are_those_published(name, billions):
    """Mixtral says 12.9 B active (Jiang et al. 2024, section 2), Qwen3-30B-A3B 3.3 B (its model card)."""
    assert active(architecture_of(name)) / 1e9 == pytest.approx(billions, abs=0.06)


def test_active_counts_the_experts_that_are_not_idle(config_of, on_meta):
    """By hand: every weight of a mixture, less the share of its experts' tensors that a token is not routed to."""
    config = config_of("mixtral-8x7b")
    idle = sum(
        p.numel() * (config.num_local_experts - config.num_experts_per_tok) // config.num_local_experts
        for name, p in on_meta(config).named_parameters()
        if ".experts." in name
    )
    a = architecture_of("mixtral-8x7b")
    assert active(a) == parameter_count(a) - idle


def test_all_of_a_dense_model_is_active():
    assert active(architecture_of("llama-3-8b")) == parameter_count(architecture_of("llama-3-8b"))


@pytest.mark.parametrize(
    "name", ["llama-2-7b", "qwen2-0.5b", "phi-3-mini", "gemma-2-2b", "gpt2", "qwen3-0.6b"]
)
def test_linear_layers_are_those_that_peft_adapts(name, config_of, on_meta):
    """PEFT's "all-linear": every linear layer of a block, shape (outputs, inputs) whatever the class stores."""
    from peft import LoraConfig, get_peft_model

    config = config_of(name, layers=1)
    adapted = get_peft_model(
        on_meta(config), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    theirs = {
        module_name.split(".layers.0.")[-1].split(".h.0.")[-1]: (module.out_features, module.in_features)
        for module_name, module in adapted.named_modules()
        if hasattr(module, "lora_A") and hasattr(module, "base_layer")
    }
    ours = {w.name.removesuffix(".weight"): w.shape for w in linear_layers(from_config(config))}
    assert ours == theirs


def test_weights_of_a_layer_are_a_slice_of_all():
    a = architecture_of("qwen3-0.6b")
    inner = [(w.name, w.shape) for w in weights(a) if ".layers.3." in w.name]
    assert [(f"model.layers.3.{w.name}", w.shape) for w in layer_weights(a, 3)] == inner


def test_find_takes_names_files_folders_and_configs(tmp_path, config_of):
    """A preset in any case, a config.json or its folder, a config object, its dictionary, an Architecture."""
    a, config = architecture_of("qwen2-0.5b"), config_of("qwen2-0.5b")
    config.save_pretrained(tmp_path)
    for model in (
        "Qwen2-0.5B",
        tmp_path,
        tmp_path / "config.json",
        str(tmp_path),
        config,
        config.to_dict(),
        a,
    ):
        assert architecture_of(model) == a


def test_the_embedded_model_is_known():
    assert architecture_of("tiny").family == "llama"


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(
        UnknownModel, match="'llama3-8b' is not a preset, and there is no such file"
    ) as caught:
        architecture_of("llama3-8b")
    assert "Did you mean llama-3-8b" in str(caught.value)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(UnknownModel, match="Known: course-100m, gemma-2b"):
        architecture_of("zzzzzz")


def test_a_name_of_the_hub_finds_its_preset_near():
    with pytest.raises(UnknownModel, match=r"Did you mean .*qwen2-7b"):
        architecture_of("Qwen/Qwen2-7b-x")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_a_file_that_is_no_config_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UnknownModel, match=r"config\.json is not a config\.json of a model"):
        architecture_of(path)


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(UnknownModel, match=r"config\.json is not a config"):
        architecture_of(tmp_path)


def test_a_family_that_is_not_known_is_told_which_are():
    with pytest.raises(UnknownModel, match=r"model_type='t5' is not a family .*gpt2.*llama"):
        from_config({"model_type": "t5"})
    with pytest.raises(UnknownModel, match="model_type=None"):
        from_config({})


def test_a_missing_number_is_named():
    config = dict(presets()["llama-2-7b"])
    del config["hidden_size"]
    with pytest.raises(ValueError, match="this llama config lacks 'hidden_size'"):
        from_config(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1 to 10,000; .* says 0"),
        ({"vocab_size": -5}, "vocab_size must be a whole number .* says -5"),
        ({"intermediate_size": 2.5}, "intermediate_size must be a whole number .* says 2.5"),
        ({"num_attention_heads": True}, "heads must be a whole number .* says True"),
        ({"num_attention_heads": 0}, "heads"),
        ({"num_key_value_heads": 5}, "32 heads cannot share 5 key-value heads"),
    ],
)
def test_impossible_numbers_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        from_config(presets()["llama-2-7b"] | changes)


def test_presets_are_plain_configs():
    """Each is what `config.json` says: JSON, a family the planner knows, no weights, one Architecture."""
    for config in presets().values():
        assert json.loads(json.dumps(config)) == config
        assert config["model_type"] in FAMILIES
        assert isinstance(from_config(config), Architecture)


def test_a_wrong_count_is_caught(config_of, on_meta):
    """Qwen-2's biases, which its config does not mention, make a difference that the comparison sees."""
    model = on_meta(config_of("qwen2-0.5b", layers=1))
    wrong = replace(from_config(model.config), attention_bias=False)
    assert parameter_count(wrong) != sum(p.numel() for p in model.parameters())
