"""Check claims about memory (lecture 3). The texts behind HU, RU and the others: `classroom.publish.claims.TEXTS`.

Shapes come from transformers' classes on the meta device, bytes of 4-bit weights from bitsandbytes, sizes of adapters
from PEFT; the planner is used only where several of them meet. GB is 10^9 bytes.
"""

import functools
import itertools
from dataclasses import replace

import torch
from torch import nn

from classroom.models.load import load, quiet
from classroom.records.claim import cited, claim
from coursekit.memory.architecture import presets
from coursekit.memory.cards import find_card
from coursekit.memory.measure import allocations, held_bytes, optimizer_tensors, saved_tensors
from coursekit.memory.planner import Plan, estimate

GB, GIB = 1e9, 2**30
BITSANDBYTES = "storage of bitsandbytes' Linear4bit; transformers' model on the meta device"
DECIMAL = "GB = 10^9 bytes"


def config_of(name, **changes):
    from transformers import CONFIG_MAPPING

    values = presets()[name] | changes
    return CONFIG_MAPPING[values["model_type"]](**{k: v for k, v in values.items() if k != "model_type"})


def on_meta(config):
    with quiet(), torch.device("meta"):
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(config)


@functools.cache
def sizes(name):
    """(parameters, numel of each linear layer that bitsandbytes replaces: all but the head)"""
    model = on_meta(config_of(name))
    linear = [m.weight for n, m in model.named_modules() if type(m) is nn.Linear and n != "lm_head"]
    return sum(p.numel() for p in model.parameters()), tuple(w.numel() for w in linear)


def gigabytes(name, bytes_per_parameter):
    return sizes(name)[0] * bytes_per_parameter / GB


@functools.cache
def linear_4bit(outputs, inputs, double=True):
    """(bytes of the codes, bytes of everything else) of a weight that bitsandbytes has quantised."""
    with quiet():
        import bitsandbytes as bnb

        layer = bnb.nn.Linear4bit(inputs, outputs, bias=False, quant_type="nf4", compress_statistics=double)
        weight = layer.to("cpu").weight
    return weight.nbytes, held_bytes([weight]) - weight.nbytes


def quantised(name):
    """GB of a model in NF4 with double quantisation: codes, quant state, the rest in BF16, the rest in FP32.

    The weights of real models are multiples of 2^14. Over these bitsandbytes' storage is linear; two sizes are measured.
    """
    total, linear = sizes(name)
    (codes, state), (codes2, state2) = linear_4bit(128, 128), linear_4bit(256, 128)
    step = state2 - state
    rest = total - sum(linear)
    return {
        "codes": sum(linear) // 2**14 * (codes2 - codes) / GB,
        "state": sum(n // 2**14 * step + state - step for n in linear) / GB,
        "rest": 2 * rest / GB,
        "rest_fp32": small_qlora()["itemsize"] * rest / GB,
    }


def nf4(name):
    """(GB as loaded, GB after prepare_model_for_kbit_training)"""
    parts = quantised(name)
    loaded = parts["codes"] + parts["state"] + parts["rest"]
    return loaded, loaded - parts["rest"] + parts["rest_fp32"]


@functools.cache
def small_qlora():
    """A Phi-3 of one narrow layer, quantised: bytes counted, bytes by transformers, itemsize of its prepared head."""
    small = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 1,
        "vocab_size": 256,
        "pad_token_id": 0,
    }
    with quiet():
        import bitsandbytes as bnb
        import peft
        from transformers import AutoModelForCausalLM

        config = config_of("phi-3-mini", num_attention_heads=4, num_key_value_heads=4, **small)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear and name != "lm_head":
                layer = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False)
                layer.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4")
                model.set_submodule(name, layer)
        model.to("cpu")
        held = held_bytes([*model.parameters(), *model.buffers()])
        footprint = model.get_memory_footprint()
        model.is_loaded_in_4bit = True
        model = peft.prepare_model_for_kbit_training(model)
    return {"held": held, "footprint": footprint, "itemsize": model.lm_head.weight.element_size()}


@functools.cache
def lora(name, target, rank=16):
    """Parameters that PEFT trains if it adapts the layers with this name."""
    with quiet():
        import peft

        model = peft.get_peft_model(
            on_meta(config_of(name, num_hidden_layers=1)), peft.LoraConfig(r=rank, target_modules=[target])
        )
    return sum(p.numel() for p in model.parameters() if p.requires_grad) * config_of(name).num_hidden_layers


QV, QKVO = ("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*QKVO, "gate_proj", "up_proj", "down_proj")


def adapter(targets, rank=16, name="llama-2-7b"):
    return sum(lora(name, target, rank) for target in targets)


@functools.cache
def bytes_per_parameter(dtype=torch.float32, eight_bit=False):
    """{what: bytes per parameter} after backward and one step of torch's AdamW or of bitsandbytes' 8-bit AdamW."""
    weight = nn.Parameter(torch.randn(512, 512).to(dtype))
    with quiet():
        if eight_bit:
            from bitsandbytes.optim import AdamW8bit as AdamW
        else:
            from torch.optim import AdamW
        optimizer = AdamW([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    # without the count of the steps, which has no dimension
    states = [t for t in optimizer_tensors(optimizer) if torch.is_tensor(t) and t.dim()]
    # without the values of the 8-bit codes: one table serves all weights
    states = [t for t in states if t.shape != (256,)]
    parts = {"weights": [weight], "gradients": [weight.grad], "states": states}
    return {kind: held_bytes(tensors) / weight.numel() for kind, tensors in parts.items()}


@claim(
    "RU2",
    said="The same layer as Linear4bit takes about 16.5 MB",
    where="RU, slide 23",
    verdict="wrong",
    right="{double:.2f} MB with double quantisation ({double_bits:.3f} bits per weight), {single:.2f} MB without ({single_bits:.1f} bits).",
    figures={"double": 8.655940, "double_bits": 4.127, "single": 9.437248, "single_bits": 4.5},
    tolerance=1e-3,
    convention="4096 x 4096 weights, MB = 10^6 bytes",
    source="storage of bitsandbytes' Linear4bit",
)
def linear_4bit_4096():
    found = {name: sum(linear_4bit(4096, 4096, name == "double")) for name in ("double", "single")}
    bits = {f"{name}_bits": 8 * nbytes / 4096**2 for name, nbytes in found.items()}
    return {name: nbytes / 1e6 for name, nbytes in found.items()} | bits


@claim(
    "RU3",
    said="4-bit weights are stored as indices of int8 or uint8",
    where="RU, slide 23",
    verdict="imprecise",
    right="Two of them share one byte: {weights:,} weights take {codes:,} bytes of uint8. With one byte each they would take {unpacked:.1f} MB.",
    figures={"weights": 16_777_216, "codes": 8_388_608, "unpacked": 16.777216},
    source="storage of bitsandbytes' Linear4bit",
)
def two_codes_per_byte():
    codes, _ = linear_4bit(4096, 4096)
    return {"weights": 4096**2, "codes": codes, "unpacked": 4096**2 / 1e6}


@claim(
    "RU4",
    said="With QLoRA a model of 70 billion parameters trains on 24 GB",
    where="RU, slides 44 and 48",
    verdict="wrong",
    right="The NF4 weights of Llama-3-70B alone are {loaded:.1f} GB, {prepared:.1f} GB after "
    "prepare_model_for_kbit_training, before any activation. The paper trains 65B on 48 GB and 33B on 24 GB.",
    figures={"loaded": 39.52, "prepared": 43.72},
    tolerance=1e-3,
    convention=DECIMAL,
    source=f"{BITSANDBYTES}; Dettmers et al. 2023",
)
def seventy_billion_in_nf4():
    return dict(zip(("loaded", "prepared"), nf4("llama-3-70b"), strict=True))


@claim(
    "RU5",
    said="Llama-3-8B in NF4 takes about 4 GB",
    where="RU, slide 14",
    verdict="wrong",
    right="{loaded:.2f} GB: embedding and head, {kept:.2f} billion parameters, stay in BF16. After "
    "prepare_model_for_kbit_training, which makes them FP32, it is {prepared:.2f} GB.",
    figures={"loaded": 5.70, "prepared": 7.80, "kept": 1.05},
    tolerance=2e-3,
    convention=DECIMAL,
    source=BITSANDBYTES,
)
def llama_3_in_nf4():
    total, linear = sizes("llama-3-8b")
    loaded, prepared = nf4("llama-3-8b")
    return {"loaded": loaded, "prepared": prepared, "kept": (total - sum(linear)) / GB}


@claim(
    "RU6",
    said="4 bits make a model 8 times smaller",
    where="RU, slides 8, 14 and 28",
    verdict="imprecise",
    right="Only compared with FP32. Compared with BF16, which one would load, a layer shrinks {double:.2f} times with double "
    "quantisation and {single:.2f} times without, all of Llama-3-8B {whole:.1f} times.",
    figures={"double": 3.88, "single": 3.56, "whole": 2.8},
    tolerance=1e-2,
    source=BITSANDBYTES,
)
def times_smaller():
    bf16 = 2 * 4096**2
    return {
        "double": bf16 / sum(linear_4bit(4096, 4096)),
        "single": bf16 / sum(linear_4bit(4096, 4096, False)),
        "whole": gigabytes("llama-3-8b", 2) / nf4("llama-3-8b")[0],
    }


@claim(
    "RU7",
    said="Phi-3-mini has 2.21 GB after quantisation, 3.3 times less than in FP16 and about 8 times less than in FP32",
    where="RU, slide 24",
    verdict="imprecise",
    right="get_memory_footprint reports {reported:.2f} GB, because quant_state is neither parameter nor buffer. In memory are "
    "{held:.2f} GB: {fp16:.1f} times less than FP16, {fp32:.1f} times less than FP32.",
    figures={"reported": 2.21, "held": 2.26, "fp16": 3.4, "fp32": 6.8},
    tolerance=1e-2,
    convention=DECIMAL + ", double quantisation",
    source=BITSANDBYTES + "; get_memory_footprint of a small one",
)
def phi_3_footprint():
    parts, (held, _) = quantised("phi-3-mini"), nf4("phi-3-mini")
    unseen = parts["state"] if small_qlora()["footprint"] < small_qlora()["held"] else 0.0
    ratios = {"fp16": gigabytes("phi-3-mini", 2) / held, "fp32": gigabytes("phi-3-mini", 4) / held}
    return {"reported": held - unseen, "held": held} | ratios


@claim(
    "RU8",
    said="It is not 8 times because embedding, norms and head are not quantised",
    where="RU, slide 24",
    verdict="imprecise",
    right="An eighth of FP32 would be {eighth:.2f} GB. The codes of Phi-3-mini are {codes:.2f} GB, what is not quantised "
    "{rest:.2f} GB, the scales and their scales {state:.2f} GB.",
    figures={"eighth": 1.91, "codes": 1.81, "rest": 0.394, "state": 0.0576},
    tolerance=1e-2,
    convention=DECIMAL,
    source=BITSANDBYTES,
)
def why_not_eight_times():
    parts = quantised("phi-3-mini")
    return {"eighth": gigabytes("phi-3-mini", 4) / 8} | {k: parts[k] for k in ("codes", "rest", "state")}


@claim(
    "RU9",
    said="3.8 billion parameters are 14.4 GB in FP32 and 7.2 GB in FP16",
    where="RU, slide 6",
    verdict="imprecise",
    right="{fp32:.2f} and {fp16:.2f} GB, or {fp32_gib:.2f} and {fp16_gib:.2f} GiB. The other rows of the table are decimal.",
    figures={"fp32": 15.28, "fp16": 7.64, "fp32_gib": 14.23, "fp16_gib": 7.12},
    tolerance=1e-3,
    convention="Phi-3-mini; GB = 10^9 bytes, GiB = 2^30",
    source="transformers' model on the meta device",
)
def phi_3_in_two_units():
    fp32, fp16 = gigabytes("phi-3-mini", 4), gigabytes("phi-3-mini", 2)
    return {"fp32": fp32, "fp16": fp16, "fp32_gib": fp32 * GB / GIB, "fp16_gib": fp16 * GB / GIB}


def full_training():
    """Bytes per parameter of FP32 and AdamW, counted."""
    return sum(bytes_per_parameter().values())


@claim(
    "RU10",
    said="Full fine-tuning takes more than 100 GB for 8B and more than 700 GB for 70B",
    where="RU, slide 6",
    verdict="inconsistent",
    right="With {each:g} bytes per parameter it takes {small:.0f} and {large:,.0f} GB; with the 20 of the same deck {small_20:.0f} and "
    "{large_20:,.0f} GB.",
    figures={"each": 16.0, "small": 128.5, "large": 1128.9, "small_20": 160.6, "large_20": 1411.1},
    tolerance=1e-3,
    convention=DECIMAL + ", without activations",
    source="counted after a step of torch's AdamW; transformers' model on the meta device",
)
def full_fine_tuning():
    each = full_training()
    found = {"each": each}
    for size, name in (("small", "llama-3-8b"), ("large", "llama-3-70b")):
        found |= {size: gigabytes(name, each), f"{size}_20": gigabytes(name, 20)}
    return found


@claim(
    "RU11",
    said="Full fine-tuning takes 4 P (1 + 2 + 2) = 20 P bytes",
    where="RU, slide 5",
    verdict="inconsistent",
    right="Its own list (weights, gradients as large, Adam twice as large) is 4 P (1 + 1 + 2): counted, {weights:g} + {gradients:g} "
    "+ {states:g} bytes. 20 exists, but it is another ledger: 16-bit weights and gradients together with FP32 gradients, masters and Adam.",
    figures={"weights": 4.0, "gradients": 4.0, "states": 8.0},
    source="counted after a step of torch's AdamW",
)
def fp32_ledger():
    return bytes_per_parameter()


@claim(
    "RU12",
    said="Full fine-tuning of 8B is impossible on one GPU",
    where="RU, slide 6",
    verdict="imprecise",
    right="FP32 with Adam needs {fp32:.0f} GB, and an H200 has {h200:.0f}. In BF16 with 8-bit Adam weights, gradients and states are "
    "{small:.1f} GB.",
    figures={"fp32": 128.5, "h200": 141.0, "small": 48.4},
    tolerance=2e-3,
    convention=DECIMAL + "; Llama-3-8B, without activations and temporaries",
    source="counted after a step of torch's and of bitsandbytes' AdamW",
)
def full_fine_tuning_on_one_gpu():
    small = sum(bytes_per_parameter(torch.bfloat16, eight_bit=True).values())
    return {
        "fp32": gigabytes("llama-3-8b", full_training()),
        "h200": find_card("H200").memory_gb,
        "small": gigabytes("llama-3-8b", small),
    }


@claim(
    "RU13",
    said="7B in FP32 is 28 GB, more than 24 GB, so inference is impossible",
    where="RU, slide 3",
    verdict="imprecise",
    right="Inference does not need FP32: in BF16 Llama-2-7B is {bf16:.1f} GB and fits.",
    figures={"bf16": 13.477},
    tolerance=1e-3,
    convention=DECIMAL,
    source="transformers' model on the meta device",
)
def inference_in_bf16():
    return {"bf16": gigabytes("llama-2-7b", 2)}


def share(trained):
    return 100 * trained / (sizes("llama-2-7b")[0] + trained)


@claim(
    "RU14",
    said="LoRA trains 3 %, less than 0.5 %, 0.7 to 2.9 %, less than 0.2 %, 0.14 % of the parameters",
    where="RU, slides 2, 31, 33, 43 and 52",
    verdict="inconsistent",
    right="A share means nothing without rank and targets. Llama-2-7B with rank 16: {qv:.3f} % on q and v ({qv_count:,}), {qkvo:.3f} % "
    "on q, k, v, o, {all:.2f} % on all linear layers; with rank 64 on all {all_64:.2f} %.",
    figures={"qv": 0.124, "qv_count": 8_388_608, "qkvo": 0.248, "all": 0.590, "all_64": 2.318},
    tolerance=3e-3,
    convention="of base and adapters together, as PEFT prints it",
    source="PEFT on transformers' model on the meta device",
)
def trainable_shares():
    return {
        "qv": share(adapter(QV)),
        "qv_count": adapter(QV),
        "qkvo": share(adapter(QKVO)),
        "all": share(adapter(ALL)),
        "all_64": share(adapter(ALL, 64)),
    }


@claim(
    "RU15",
    said="8,847,360 of 7,255,089,664 parameters are trained, for a 7B model with r=16",
    where="RU, slide 43",
    verdict="wrong",
    right="Of the {tried} choices of targets in Llama-2-7B and Mistral-7B {matching} give that number; q and v give {llama:,} and "
    "{mistral:,}.",
    figures={"tried": 254, "matching": 0, "llama": 8_388_608, "mistral": 6_815_744},
    source="PEFT on transformers' model on the meta device",
)
def no_such_adapter():
    models = ("llama-2-7b", "mistral-7b")
    subsets = [s for n in range(1, 8) for s in itertools.combinations(ALL, n)]
    counts = [adapter(targets, name=model) for model in models for targets in subsets]
    found = dict(zip(("llama", "mistral"), (adapter(QV, name=model) for model in models), strict=True))
    return {"tried": len(counts), "matching": counts.count(8_847_360)} | found


@claim(
    "RU16",
    said="An adapter adds 0.03 billion parameters in FP32",
    where="RU, slide 8",
    verdict="imprecise",
    right="The claim names no rank. On all linear layers of Llama-2-7B it would be about rank {rank}; the usual ranks, 8 to 64, give "
    "{least:.3f} to {most:.3f} billion.",
    figures={"rank": 12, "least": 0.020, "most": 0.160},
    tolerance=1e-2,
    source="PEFT on transformers' model on the meta device",
)
def rank_of_thirty_million():
    return {
        "rank": round(0.03e9 / adapter(ALL, 1)),
        "least": adapter(ALL, 8) / GB,
        "most": adapter(ALL, 64) / GB,
    }


@claim(
    "RU17",
    said="LoRA saves about 99.9 % of the optimizer's memory",
    where="RU, slide 43",
    verdict="imprecise",
    right="{qv:.2f} % for rank 16 on q and v, {all:.1f} % for rank 64 on all linear layers. Of all memory it saves far less: "
    "the frozen weights and the activations stay.",
    figures={"qv": 99.876, "all": 97.627},
    tolerance=1e-5,
    convention="Llama-2-7B, AdamW",
    source="PEFT on transformers' model on the meta device",
)
def optimizer_saving():
    whole = sizes("llama-2-7b")[0]
    return {"qv": 100 * (1 - adapter(QV) / whole), "all": 100 * (1 - adapter(ALL, 64) / whole)}


@claim(
    "RU18",
    said="The weights of 7B shrink from 28 GB to 3.5 GB",
    where="RU, slide 52",
    verdict="wrong",
    right="NF4 takes {loaded:.2f} GB, {prepared:.2f} GB after prepare_model_for_kbit_training, and the fair baseline is BF16 "
    "with {bf16:.1f} GB.",
    figures={"loaded": 3.87, "prepared": 4.39, "bf16": 13.477},
    tolerance=2e-3,
    convention=DECIMAL + "; Llama-2-7B, double quantisation",
    source=BITSANDBYTES,
)
def seven_billion_in_nf4():
    return dict(zip(("loaded", "prepared"), nf4("llama-2-7b"), strict=True)) | inference_in_bf16.compute()


@claim(
    "RU19",
    said="Adam's states shrink from about 21 GB (7B) to about 30 MB",
    where="RU, slide 52",
    verdict="wrong",
    right="From {fp32:.1f} GB ({eight_bit:.1f} GB in 8 bits); the states of an adapter of 10 million parameters are {adapter:.0f} MB.",
    figures={"fp32": 53.9, "eight_bit": 13.69, "adapter": 80.0},
    tolerance=1e-3,
    convention=DECIMAL + "; Llama-2-7B",
    source="counted after a step of torch's and of bitsandbytes' AdamW",
)
def adams_states():
    fp32, eight_bit = bytes_per_parameter()["states"], bytes_per_parameter(eight_bit=True)["states"]
    return {
        "fp32": gigabytes("llama-2-7b", fp32),
        "eight_bit": gigabytes("llama-2-7b", eight_bit),
        "adapter": 10 * fp32,
    }


@claim(
    "RU20",
    said="Before QLoRA, full fine-tuning of 7B took one H100 or A100 of 80 GB",
    where="RU, slide 52",
    verdict="wrong",
    right="{least:.1f} GB with 16 bytes per parameter, {most:.0f} GB with 18: more than one card of 80 GB, unless Adam has 8 bits, "
    "everything is BF16, or states are offloaded.",
    figures={"least": 107.8, "most": 121.3},
    tolerance=1e-3,
    convention=DECIMAL + ", without activations",
    source="counted after a step of torch's AdamW; transformers' model on the meta device",
)
def one_card_of_80():
    return {"least": gigabytes("llama-2-7b", full_training()), "most": gigabytes("llama-2-7b", 18)}


@claim(
    "RU55",
    said="QLoRA takes 24 GB",
    where="RU, slides 44 and 52",
    verdict="imprecise",
    right="It depends on length and batch. Llama-3-8B, rank 16, peak of a step: {short:.1f} GB for one row of 512 tokens, {long:.1f} GB "
    "for one of 4096, {checkpointed:.1f} GB for the same with checkpointing.",
    figures={"short": 11.84, "long": 51.24, "checkpointed": 13.65},
    tolerance=1e-2,
    convention=DECIMAL + "; BF16, nothing cast to FP32; without CUDA's context and fragmentation",
    source="the course's planner",
)
def qlora_by_length():
    def peak(sequence, checkpointing=False):
        base = Plan("llama-3-8b", lora_rank=16, quantization="nf4", kbit_preparation=False)
        return estimate(replace(base, sequence=sequence, checkpointing=checkpointing)).peak_bytes / GB

    return {"short": peak(512), "long": peak(4096), "checkpointed": peak(4096, True)}


def saved_by_a_block(attention, sequence):
    """Bytes per s b h that one block of Llama-3-8B in BF16 saves: two blocks minus one, on fake tensors."""
    from torch._subclasses import FakeTensorMode
    from transformers import AutoModelForCausalLM

    found = []
    for layers in (1, 2):
        config = config_of("llama-3-8b", num_hidden_layers=layers)
        with quiet(), FakeTensorMode(allow_non_fake_inputs=True):
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16, attn_implementation=attention
            )
            tokens = torch.randint(0, 100, (1, sequence))
            with saved_tensors(model.train()) as saved:
                model(input_ids=tokens, labels=tokens)
        found.append(saved.bytes)
    return round((found[1] - found[0]) / (sequence * config.hidden_size), 1)


@claim(
    "HU23",
    said="Activations grow with the batch",
    where="HU",
    verdict="imprecise",
    right="And with length, width, depth and the kind of attention. A block of Llama-3-8B saves {sdpa} bytes per s b h with SDPA, at any "
    "length; with eager attention {eager_128}, {eager_256} and {eager_512} for 128, 256 and 512 tokens.",
    figures={"sdpa": 49.0, "eager_128": 58.0, "eager_256": 64.0, "eager_512": 76.0},
    convention="BF16; s length, b batch, h width 4096",
    source="saved-tensor hooks on transformers' block",
)
def activations_of_a_block():
    lengths = (128, 256, 512)
    (sdpa,) = {saved_by_a_block("sdpa", s) for s in lengths}
    return {"sdpa": sdpa} | {f"eager_{s}": saved_by_a_block("eager", s) for s in lengths}


@claim(
    "HS10",
    said="Adafactor saves memory for free",
    where="HS",
    verdict="imprecise",
    right="Of a 4096 x 4096 weight it keeps {adafactor:,} bytes and AdamW {adamw:,}; but it takes other steps (no momentum, a clipped and "
    "relative update), so the learning rate must be tuned again.",
    figures={"adafactor": 32_768, "adamw": 134_217_728},
    source="torch.optim; Shazeer and Stern 2018",
)
def adafactor_and_adamw():
    found = {}
    for name, make in (("adafactor", torch.optim.Adafactor), ("adamw", torch.optim.AdamW)):
        weight = nn.Parameter(torch.zeros(4096, 4096))
        weight.grad = torch.zeros_like(weight)
        optimizer = make([weight])
        optimizer.step()
        found[name] = held_bytes(t for t in optimizer_tensors(optimizer) if t.dim())
    return found


HS12 = cited(
    "HS12",
    said="Measure memory with nvidia-smi or nvidia-ml-py3",
    where="HS",
    verdict="imprecise",
    right="They show what the process reserved, including CUDA's context. The most that tensors took is torch.cuda.max_memory_allocated() "
    "after torch.cuda.reset_peak_memory_stats(). The package is now called nvidia-ml-py.",
    source="PyTorch documentation, CUDA semantics: memory management",
)


@claim(
    "AZ3",
    said="100 million parameters on 4 GB need special tricks",
    where="AZ",
    verdict="imprecise",
    right="Weights, gradients and Adam are only {states:.1f} GB even in FP32; activations decide. With rows of 1024 tokens the peak is "
    "{one:.1f} GB for one and {four:.1f} GB for four.",
    figures={"states": 1.601, "one": 2.335, "four": 5.734},
    tolerance=2e-3,
    convention=DECIMAL + "; 100,092,672 parameters, vocabulary 32,000",
    source="counted after a step of torch's AdamW; the course's planner",
)
def a_hundred_million():
    peaks = {
        name: estimate(Plan("course-100m", ledger="fp32", sequence=1024, batch=batch)).peak_bytes / GB
        for name, batch in (("one", 1), ("four", 4))
    }
    return {"states": gigabytes("course-100m", full_training())} | peaks


@claim(
    "AZ4",
    said="Accumulating gradients is a larger batch",
    where="AZ",
    verdict="imprecise",
    right="Only if each micro-batch is weighted by its share of the target tokens. The embedded model on micro-batches of "
    "{few} and {many} targets: mean of means {means:.2f}, mean over tokens {tokens:.2f}.",
    figures={"few": 2, "many": 20, "means": 4.505, "tokens": 5.603},
    tolerance=1e-3,
    source="the embedded model",
)
@functools.cache
def mean_of_means():
    with quiet():
        model, tokenizer = load("tiny", device="cpu")
    texts = (
        "A key.",
        "The young knight found a silver key in the garden, and the old queen lost a golden ring.",
    )
    rows = [torch.tensor([tokenizer(text).input_ids]) for text in texts]
    with torch.no_grad():
        losses = [model(input_ids=row, labels=row).loss.item() for row in rows]
    few, many = (row.numel() - 1 for row in rows)
    tokens = (few * losses[0] + many * losses[1]) / (few + many)
    return {"few": few, "many": many, "means": sum(losses) / 2, "tokens": tokens}


def zero_states(stage, ranks):
    """GB on each rank between backward and step: 16-bit weights and gradients, masters, Adam."""
    plan = Plan("llama-2-7b", ledger="master-16", zero_stage=stage, world_size=ranks)
    terms = estimate(plan).phases["optimizer step"]
    held = ("weights", "gradients", "master weights", "optimizer states")
    return sum(terms[name] for name in held) / GB


@claim(
    "ZH4",
    said="Llama-2-7B takes 28, 14, 12, 10 and 8 GB: FP32, mixed precision, ZeRO-1, ZeRO-2, ZeRO-3",
    where="ZH",
    verdict="inconsistent",
    right="At most the weights alone take that little; the same lab counts 16 bytes per parameter. With 16 it is {fp32:.1f} GB in FP32 and "
    "{mixed:.1f} GB mixed; on 4 GPUs {zero1:.1f}, {zero2:.1f} and {zero3:.1f} GB each. With any number of GPUs stage 1 stays above "
    "{floor1:.1f} and stage 2 above {floor2:.1f} GB.",
    figures={
        "fp32": 107.8, "mixed": 107.8, "zero1": 47.2, "zero2": 37.1, "zero3": 27.0, "floor1": 27.0, "floor2": 13.5,
    },
    tolerance=2e-3,
    convention=DECIMAL + ", without activations",
    source="counted after a step of torch's AdamW; the course's planner",
)  # fmt: skip
def llama_2_under_zero():
    found = {"fp32": gigabytes("llama-2-7b", full_training()), "mixed": zero_states(0, 1)}
    found |= {f"zero{stage}": zero_states(stage, 4) for stage in (1, 2, 3)}
    return found | {f"floor{stage}": zero_states(stage, 10**6) for stage in (1, 2)}


@claim(
    "ZH5",
    said="Standard training of Llama-2-7B takes about 12 to 14 GB",
    where="ZH",
    verdict="wrong",
    right="The BF16 weights alone are {weights:.1f} GB; weights, gradients and Adam {states:.1f} GB.",
    figures={"weights": 13.477, "states": 107.8},
    tolerance=1e-3,
    convention=DECIMAL,
    source="counted after a step of torch's AdamW; transformers' model on the meta device",
)
def standard_training():
    return {"weights": gigabytes("llama-2-7b", 2), "states": gigabytes("llama-2-7b", full_training())}


@claim(
    "ZH6",
    said="ZeRO-2 with the optimizer on the CPU takes 8 to 10 GB",
    where="ZH",
    verdict="wrong",
    right="Stage 2 does not shard weights: those of Llama-2-7B are {one:.1f} GB in BF16 on one GPU and {four:.1f} GB on each of four. A "
    "bucket of gradients and the activations are added.",
    figures={"one": 13.477, "four": 13.477},
    tolerance=1e-3,
    convention=DECIMAL,
    source="the course's planner",
)
def zero_2_with_offload():
    def weights(ranks):
        plan = Plan("llama-2-7b", ledger="master-16", zero_stage=2, offload="optimizer", world_size=ranks)
        return estimate(plan).phases["forward"]["weights"] / GB

    return {"one": weights(1), "four": weights(4)}


@claim(
    "ZH11",
    said="The memory that a step uses is the difference of memory_allocated before and after it",
    where="ZH",
    verdict="wrong",
    right="A step releases what it allocates. Here {left} bytes more are held after it, but its peak is more than {peak} MB higher. Reset, "
    "run, and read max_memory_allocated.",
    figures={"left": 0, "peak": 20},
    convention="a step of the embedded model on a CPU, measured by torch's profiler",
    source="events of torch's allocator",
)
@functools.cache
def difference_and_peak():
    with quiet():
        model = load("tiny", device="cpu")[0].train()
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.arange(256).view(4, 64)

    def step():
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def held():
        return held_bytes([*model.parameters(), *model.buffers(), *optimizer_tensors(optimizer)])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # parallel kernels allocate more
    step()  # makes the optimizer's states
    before = held()
    with allocations() as events:
        step()
    torch.set_num_threads(threads)
    return {"left": held() - before, "peak": 20 if events.peak > 20e6 else 0}


@claim(
    "ZH13",
    said="2P + 2P + 12P = 16P",
    where="ZH",
    verdict="right",
    right="{weights:g} bytes of FP16 weights, {gradients:g} of FP16 gradients, {rest:g} of FP32: master weights and Adam's two states.",
    figures={"weights": 2.0, "gradients": 2.0, "rest": 12.0},
    source="counted after a step on FP32 masters",
)
def sixteen_bytes():
    weight = torch.randn(512, 512).half().requires_grad_()
    weight.grad = torch.ones_like(weight)
    master = weight.detach().float().requires_grad_()
    optimizer = torch.optim.AdamW([master])
    master.grad = weight.grad.float()
    optimizer.step()
    master.grad = None
    fp32 = [master, *(t for t in optimizer_tensors(optimizer) if t.dim())]
    parts = {"weights": [weight], "gradients": [weight.grad], "rest": fp32}
    return {name: held_bytes(tensors) / weight.numel() for name, tensors in parts.items()}
