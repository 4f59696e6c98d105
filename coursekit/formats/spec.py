"""Describe a number format as one frozen record; the table of all formats of the course.

    >>> FP16.max, FP16.min_subnormal, FP16.eps
    (65504.0, 5.960464477539063e-08, 0.0009765625)

A floating-point format is five facts: how many exponent bits, how many mantissa bits, which bias, which codes
are kept for infinity and NaN, and whether there is a sign. Everything else (largest number, smallest,
spacing) follows and is computed here as a property. Bare Python: usable without numpy and torch.

Layout of a code, from the highest bit: [sign] [exponent field, E bits] [mantissa field, M bits].

    exponent field > 0:  value = (-1)^sign * 2^(field - bias) * (1 + mantissa / 2^M)      normal
    exponent field = 0:  value = (-1)^sign * 2^(1 - bias)     * (0 + mantissa / 2^M)      subnormal

What this leaves out: arithmetic (`scalar`). Block formats share one scale among many elements; `BlockSpec` only names
their parts, `block` computes with them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

SPECIALS = {
    "ieee": "the highest exponent field is reserved: mantissa 0 is infinity, any other mantissa is NaN",
    "fn": "finite with NaN: only the code with every exponent and mantissa bit set is NaN; no infinity",
    "fnuz": "finite, NaN, unsigned zero: the code of negative zero is the only NaN; no infinity, no -0",
    "finite": "every code is a number: no infinity, no NaN",
}


@dataclass(frozen=True)
class FloatSpec:
    """A floating-point format.

    `specials` is a key of SPECIALS. `subnormals=False` gives exponent field 0 the same meaning as the
    others (E8M0, which then has no zero). `source` names the document that defines the format.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    specials: str
    source: str
    signed: bool = True
    subnormals: bool = True

    def __post_init__(self):
        if self.specials not in SPECIALS:
            raise ValueError(f"specials must be one of {', '.join(SPECIALS)}; got {self.specials!r}.")
        if self.exponent_bits < 1 or self.mantissa_bits < 0:
            raise ValueError(
                "a float needs at least 1 exponent bit and 0 mantissa bits; "
                f"got {self.exponent_bits} and {self.mantissa_bits}."
            )
        if not self.signed and self.specials == "fnuz":
            raise ValueError("fnuz keeps NaN in the code of -0, so the format must be signed.")
        if self.subnormals and self.max_code < 1 << self.mantissa_bits:
            raise ValueError(
                f"{self.name} keeps so many codes for infinity and NaN that no normal number is left. "
                "Use more exponent bits, or specials='finite'."
            )
        if self.max_exponent > 1023 or self.min_exponent - self.mantissa_bits < -1074:
            raise ValueError(
                f"{self.name} reaches beyond a Python float (2^-1074 to 2^1023), which holds its values here "
                "exactly. Use fewer exponent bits or another bias."
            )

    @property
    def bits(self) -> int:
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def sign_mask(self) -> int:
        """The sign bit as an integer, 0 if unsigned."""
        return 1 << (self.bits - 1) if self.signed else 0

    @property
    def max_exponent(self) -> int:
        """Exponent of the largest finite number."""
        return (self.max_code >> self.mantissa_bits) - self.bias

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number; subnormals share it."""
        lowest_field = 1 if self.subnormals else 0  # with subnormals, field 0 means the exponent of field 1
        return lowest_field - self.bias

    @property
    def max_code(self) -> int:
        """Code of the largest finite number (positive)."""
        all_ones = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        if self.specials == "ieee":
            return all_ones - (1 << self.mantissa_bits)  # below the reserved exponent field
        return all_ones - 1 if self.specials == "fn" else all_ones

    @property
    def inf_code(self) -> int | None:
        """Code of +infinity, None if there is none."""
        return self.max_code + 1 if self.specials == "ieee" else None

    @property
    def nan_code(self) -> int | None:
        """Code of the quiet NaN, sign bit clear (in fnuz set: its only NaN). None if there is none."""
        match self.specials:
            case "ieee" if self.mantissa_bits > 0:
                return self.inf_code | (1 << (self.mantissa_bits - 1))  # quiet: the first mantissa bit is set
            case "fn":
                return self.max_code + 1
            case "fnuz":
                return self.sign_mask
        return None

    @property
    def has_zero(self) -> bool:
        return self.subnormals

    @property
    def has_negative_zero(self) -> bool:
        return self.signed and self.subnormals and self.specials != "fnuz"

    @property
    def max(self) -> float:
        """Largest finite number."""
        hidden_one = 1 << self.mantissa_bits
        significand = hidden_one + (self.max_code & (hidden_one - 1))
        return significand * 2.0 ** (self.max_exponent - self.mantissa_bits)

    @property
    def min_normal(self) -> float:
        """Smallest positive normal number, also called tiny."""
        return 2.0**self.min_exponent

    @property
    def min_subnormal(self) -> float:
        """Smallest positive number of all; the smallest normal one where there are no subnormals."""
        return 2.0 ** (self.min_exponent - self.mantissa_bits) if self.subnormals else self.min_normal

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger number."""
        return 2.0**-self.mantissa_bits


@dataclass(frozen=True)
class IntSpec:
    """A two's complement integer, read as code * 2^-fraction_bits (MXINT8 has 6 fraction bits)."""

    name: str
    bits: int
    source: str
    signed: bool = True
    fraction_bits: int = 0

    @property
    def ulp(self) -> float:
        return 2.0**-self.fraction_bits

    @property
    def max(self) -> float:
        return (2 ** (self.bits - self.signed) - 1) * self.ulp

    @property
    def min(self) -> float:
        return -(2 ** (self.bits - 1)) * self.ulp if self.signed else 0.0


@dataclass(frozen=True)
class BlockSpec:
    """`block_size` elements in a row share one scale; NVFP4 adds one FP32 scale for the whole tensor."""

    name: str
    element: FloatSpec | IntSpec
    block_size: int
    scale: FloatSpec
    source: str
    tensor_scale: bool = False

    @property
    def bits_per_element(self) -> float:
        """Bits stored per element, its share of the block scale included; NVFP4's scale per tensor is not counted."""
        return self.element.bits + self.scale.bits / self.block_size


IEEE754 = "IEEE 754-2019"
OCP8 = "OCP 8-bit Floating Point Specification (OFP8) 1.0, 2023"
OCP_MX = "OCP Microscaling Formats (MX) Specification 1.0, 2023"
FNUZ = "Noune et al., 8-bit Numerical Formats for Deep Neural Networks, 2022 (arXiv:2206.02915)"
P_BF16 = "Kalamkar et al., A Study of BFLOAT16 for Deep Learning Training, 2019 (arXiv:1905.12322)"
ML_DTYPES = "ml_dtypes README (github.com/jax-ml/ml_dtypes)"
NVIDIA_TF32 = "NVIDIA A100 Tensor Core GPU Architecture whitepaper, 2020"
NVIDIA_NVFP4 = "NVIDIA, Introducing NVFP4 for Efficient and Accurate Low-Precision Inference, 2025"
TWOS = "two's complement"

#                  name            E   M   bias  specials  source
FP32 = FloatSpec("FP32", 8, 23, 127, "ieee", IEEE754)
TF32 = FloatSpec("TF32", 8, 10, 127, "ieee", NVIDIA_TF32)
BF16 = FloatSpec("BF16", 8, 7, 127, "ieee", P_BF16)
FP16 = FloatSpec("FP16", 5, 10, 15, "ieee", IEEE754)
E5M2 = FloatSpec("E5M2", 5, 2, 15, "ieee", OCP8)
E4M3 = FloatSpec("E4M3", 4, 3, 7, "fn", OCP8)
E3M2 = FloatSpec("E3M2", 3, 2, 3, "finite", OCP_MX)
E2M3 = FloatSpec("E2M3", 2, 3, 1, "finite", OCP_MX)
E2M1 = FloatSpec("E2M1", 2, 1, 1, "finite", OCP_MX)
E8M0 = FloatSpec("E8M0", 8, 0, 127, "fn", OCP_MX, signed=False, subnormals=False)
# Variants of FP8 that ml_dtypes has: other rules for the special codes.
E4M3_IEEE = FloatSpec("E4M3_IEEE", 4, 3, 7, "ieee", ML_DTYPES)
E3M4 = FloatSpec("E3M4", 3, 4, 3, "ieee", ML_DTYPES)
E4M3FNUZ = FloatSpec("E4M3FNUZ", 4, 3, 8, "fnuz", FNUZ)
E5M2FNUZ = FloatSpec("E5M2FNUZ", 5, 2, 16, "fnuz", FNUZ)
E4M3B11FNUZ = FloatSpec("E4M3B11FNUZ", 4, 3, 11, "fnuz", ML_DTYPES)

INT8 = IntSpec("INT8", 8, TWOS)
UINT8 = IntSpec("UINT8", 8, TWOS, signed=False)
INT4 = IntSpec("INT4", 4, TWOS)
UINT4 = IntSpec("UINT4", 4, TWOS, signed=False)
INT2 = IntSpec("INT2", 2, TWOS)
UINT2 = IntSpec("UINT2", 2, TWOS, signed=False)
MXINT8_ELEMENT = IntSpec("MXINT8_ELEMENT", 8, OCP_MX, fraction_bits=6)

MXFP8_E5M2 = BlockSpec("MXFP8_E5M2", E5M2, 32, E8M0, OCP_MX)
MXFP8_E4M3 = BlockSpec("MXFP8_E4M3", E4M3, 32, E8M0, OCP_MX)
MXFP6_E3M2 = BlockSpec("MXFP6_E3M2", E3M2, 32, E8M0, OCP_MX)
MXFP6_E2M3 = BlockSpec("MXFP6_E2M3", E2M3, 32, E8M0, OCP_MX)
MXFP4 = BlockSpec("MXFP4", E2M1, 32, E8M0, OCP_MX)
MXINT8 = BlockSpec("MXINT8", MXINT8_ELEMENT, 32, E8M0, OCP_MX)
NVFP4 = BlockSpec("NVFP4", E2M1, 16, E4M3, NVIDIA_NVFP4, tensor_scale=True)

FP8_VARIANTS = (E4M3_IEEE, E3M4, E4M3FNUZ, E5M2FNUZ, E4M3B11FNUZ)
FLOATS = (FP32, TF32, BF16, FP16, E5M2, E4M3, E3M2, E2M3, E2M1, E8M0, *FP8_VARIANTS)
INTS = (INT8, UINT8, INT4, UINT4, INT2, UINT2, MXINT8_ELEMENT)
BLOCKS = (MXFP8_E5M2, MXFP8_E4M3, MXFP6_E3M2, MXFP6_E2M3, MXFP4, MXINT8, NVFP4)
FORMATS = {spec.name: spec for spec in (*FLOATS, *INTS, *BLOCKS)}

ALIASES = {
    "FLOAT32": "FP32", "FLOAT16": "FP16", "HALF": "FP16", "BFLOAT16": "BF16",
    "FP8": "E4M3", "FP8_E4M3": "E4M3", "FLOAT8_E4M3FN": "E4M3", "FP8_E5M2": "E5M2", "FLOAT8_E5M2": "E5M2",
    "FP6_E3M2": "E3M2", "FP6_E2M3": "E2M3", "FP4": "E2M1", "FP4_E2M1": "E2M1",
}  # fmt: skip


def get_format(name: str) -> FloatSpec | IntSpec | BlockSpec:
    """The format of that name (case and hyphens do not matter).

    >>> get_format("fp16").max
    65504.0

    Raises ValueError with the nearest known names if there is none.
    """
    key = name.upper().replace("-", "_").replace(" ", "_")
    key = ALIASES.get(key, key)
    if key not in FORMATS:
        near = difflib.get_close_matches(key, FORMATS, n=3, cutoff=0.4) or list(FORMATS)
        raise ValueError(f"no number format is called {name!r}; did you mean {', '.join(near)}?")
    return FORMATS[key]
