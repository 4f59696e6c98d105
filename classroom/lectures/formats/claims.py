"""Claims about number formats (lecture 1). The texts behind HU, RU and the others: `classroom.publish.claims.TEXTS`."""

import torch

from classroom.records.claim import cited, claim
from coursekit.formats import scalar
from coursekit.formats.spec import BF16, E4M3, E5M2, FP16, FP32

IEEE = "IEEE 754-2019, table 3.5"


def layout(fmt):
    return f"{int(fmt.signed)}-{fmt.exponent_bits}-{fmt.mantissa_bits}"


@claim(
    "HU0",
    said="FP32, FP16 and BF16 have 1-8-23, 1-5-10 and 1-8-7 bits of sign, exponent and mantissa",
    where="HU",
    verdict="right",
    right="{fp32}, {fp16} and {bf16}; torch's own eps and max follow from them.",
    figures={"fp32": "1-8-23", "fp16": "1-5-10", "bf16": "1-8-7", "agrees with torch.finfo": True},
    source="torch.finfo",
)
def bit_layouts():
    pairs = ((FP32, torch.float32), (FP16, torch.float16), (BF16, torch.bfloat16))
    infos = [(fmt, torch.finfo(dtype)) for fmt, dtype in pairs]
    agrees = all(fmt.eps == info.eps and fmt.max == info.max for fmt, info in infos)
    return {
        "fp32": layout(FP32),
        "fp16": layout(FP16),
        "bf16": layout(BF16),
        "agrees with torch.finfo": agrees,
    }


@claim(
    "HU2",
    said="1.0001 in FP16 may become 1.0",
    where="HU",
    verdict="imprecise",
    right="It is exactly {stored}, every time: the next FP16 number above 1 is {next}, and 1.0001 is nearer to 1.",
    figures={"stored": 1.0, "next": 1.0009765625},
    source="torch.float16",
)
def one_and_a_ten_thousandth():
    one = torch.tensor(1.0, dtype=torch.float16)
    return {"stored": torch.tensor(1.0001).half().item(), "next": torch.nextafter(one, one * 2).item()}


@claim(
    "HU3",
    said="The range of FP16, given without its subnormals",
    where="HU",
    verdict="imprecise",
    right="The largest is {max:,.0f}, the smallest normal {min_normal:.3g}, the smallest subnormal {min_subnormal:.3g}.",
    figures={"max": 65504.0, "min_normal": 2.0**-14, "min_subnormal": 2.0**-24},
    source=IEEE,
)
def fp16_range():
    values = [scalar.decode(code, FP16) for code in (0x7BFF, 0x0400, 0x0001)]
    return dict(zip(("max", "min_normal", "min_subnormal"), values, strict=True))


@claim(
    "HU4",
    said="FP32 reaches from 10^-38 to 10^38",
    where="HU",
    verdict="imprecise",
    right="The largest is {max:.3g}, the smallest normal {min_normal:.3g}; subnormals reach down to {min_subnormal:.2g}.",
    figures={
        "max": 3.4028234663852886e38,
        "min_normal": 1.1754943508222875e-38,
        "min_subnormal": 1.401298464324817e-45,
    },
    source=IEEE,
)
def fp32_range():
    values = [scalar.decode(code, FP32) for code in (0x7F7FFFFF, 0x00800000, 0x00000001)]
    return dict(zip(("max", "min_normal", "min_subnormal"), values, strict=True))


def add_a_thousandth_1000_times(dtype):
    x = torch.tensor(1.0, dtype=dtype)
    for _ in range(1000):
        x += 1e-3
    return round(x.item(), 4)


@claim(
    "HU9",
    said="BF16's precision is usually fine, and it neither overflows nor underflows",
    where="HU",
    verdict="imprecise",
    right="It has the range of FP32 but {significant_bits} significant bits: 1 + 1000 x 0.001 stays {bf16} in BF16, gives {fp16} in "
    "FP16 and {fp32} in FP32. Weights need an FP32 master copy, Kahan summation or stochastic rounding.",
    figures={"significant_bits": 8, "bf16": 1.0, "fp16": 1.9766, "fp32": 2.0},
    tolerance=1e-5,
    source="a loop of torch additions",
)
def swallowed_updates():
    return {
        "significant_bits": BF16.mantissa_bits + 1,
        "bf16": add_a_thousandth_1000_times(torch.bfloat16),
        "fp16": add_a_thousandth_1000_times(torch.float16),
        "fp32": add_a_thousandth_1000_times(torch.float32),
    }


HU10 = cited(
    "HU10",
    said="BF16 is potentially faster than FP16",
    where="HU",
    verdict="imprecise",
    right="On A100 and H100 both formats have the same tensor-core rate; BF16 saves the loss scaler, not time in products.",
    source="NVIDIA A100 and H100 Tensor Core GPU data sheets (peak rates)",
)


@claim(
    "RU1",
    said="nn.Linear(4096, 4096) takes 132 MB in FP16",
    where="RU, slide 23",
    verdict="wrong",
    right="It takes {megabytes:.2f} MB, which is {mebibytes:.0f} MiB; FP32 takes {fp32_megabytes:.1f} MB, so 132 is neither.",
    figures={"megabytes": 33.554432, "mebibytes": 32.0, "fp32_megabytes": 67.108864},
    convention="MB = 10^6 bytes, MiB = 2^20; no bias",
    source="element_size of the torch weight",
)
def linear_4096():
    def weight_bytes(dtype):
        weight = torch.nn.Linear(4096, 4096, bias=False, dtype=dtype, device="meta").weight
        return weight.numel() * weight.element_size()

    fp16 = weight_bytes(torch.float16)
    return {
        "megabytes": fp16 / 1e6,
        "mebibytes": fp16 / 2**20,
        "fp32_megabytes": weight_bytes(torch.float32) / 1e6,
    }


@claim(
    "RU3b",
    said="7 billion parameters in FP32 are 28 GB",
    where="RU, slide 3",
    verdict="right",
    right="{gigabytes:.0f} GB.",
    figures={"gigabytes": 28.0},
    convention="GB = 10^9 bytes, exactly 7e9 parameters",
    source="4 bytes per parameter",
)
def seven_billion():
    return {"gigabytes": 7e9 * torch.empty(0, dtype=torch.float32).element_size() / 1e9}


@claim(
    "RU21",
    said="torch.randint(0, 16, (1000,)) is INT4 and takes 500 bytes",
    where="RU, slide 11",
    verdict="wrong",
    right="It is {dtype} and takes {bytes:,} bytes. To take {packed}, two codes have to be packed into each byte.",
    figures={"dtype": "torch.int64", "bytes": 8000, "packed": 500},
    source="torch",
)
def int4_indices():
    indices = torch.randint(0, 16, (1000,))
    packed = indices[0::2].to(torch.uint8) << 4 | indices[1::2].to(torch.uint8)
    return {"dtype": str(indices.dtype), "bytes": indices.nbytes, "packed": packed.nbytes}


HS11 = cited(
    "HS11",
    said="Prefer BF16 if possible",
    where="HS",
    verdict="imprecise",
    right="From Ampere on, yes. V100 (Volta) and T4 (Turing) have tensor cores for FP16 but not for BF16.",
    source="NVIDIA Volta, Turing and Ampere architecture whitepapers",
)

AZ6 = cited(
    "AZ6",
    said="A T4 is faster with FP16",
    where="AZ",
    verdict="imprecise",
    right="With FP16, yes; the advice does not hold for BF16, for which a T4 has no tensor cores.",
    source="NVIDIA Turing GPU architecture whitepaper",
)


@claim(
    "LB3",
    said="A cast to FP8 that overflows wraps around",
    where="LB: a comment in nanochat's fp8.py",
    verdict="wrong",
    right="In the installed torch a cast of 1,000,000 gives {e4m3} in E4M3 (saturates) and {e5m2} in E5M2.",
    figures={"e4m3": E4M3.max, "e5m2": float("inf")},
    convention="torch 2.13; older versions gave NaN in E4M3",
    source=f"torch casts; largest finite numbers {E4M3.max:.0f} and {E5M2.max:.0f}",
)
def fp8_overflow():
    million = torch.tensor(1e6)
    return {"e4m3": million.to(torch.float8_e4m3fn).item(), "e5m2": million.to(torch.float8_e5m2).item()}
