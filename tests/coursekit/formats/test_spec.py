"""The table of formats, against ml_dtypes, torch and the standards' own figures."""

import ml_dtypes
import numpy as np
import pytest
import torch

from coursekit.formats import spec
from coursekit.formats.spec import FloatSpec, get_format


def test_landmarks_equal_ml_dtypes(peer):
    theirs = ml_dtypes.finfo(peer.dtype)
    assert peer.fmt.bits == theirs.bits
    assert peer.fmt.max == float(theirs.max)
    assert peer.fmt.min_normal == float(theirs.smallest_normal)
    assert peer.fmt.has_negative_zero == bool(np.signbit(peer.values[peer.values == 0]).any())
    assert peer.fmt.has_zero == bool((peer.values == 0).any())


@pytest.mark.parametrize(
    ("fmt", "dtype"), [(spec.FP32, torch.float32), (spec.BF16, torch.bfloat16), (spec.FP16, torch.float16)]
)
def test_landmarks_equal_torch(fmt, dtype):
    theirs = torch.finfo(dtype)
    assert (fmt.bits, fmt.max, fmt.min_normal, fmt.eps) == (theirs.bits, theirs.max, theirs.tiny, theirs.eps)


@pytest.mark.parametrize("fmt", spec.INTS, ids=lambda fmt: fmt.name)
def test_integers_equal_numpy(fmt):
    info = {"INT8": np.int8, "UINT8": np.uint8, "MXINT8_ELEMENT": np.int8}.get(fmt.name)
    info = np.iinfo(info) if info else ml_dtypes.iinfo(getattr(ml_dtypes, fmt.name.lower()))
    assert (fmt.min / fmt.ulp, fmt.max / fmt.ulp) == (info.min, info.max)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("MXFP8_E4M3", 8.25), ("MXFP6_E3M2", 6.25), ("MXFP4", 4.25), ("MXINT8", 8.25), ("NVFP4", 4.5)],
)
def test_bits_per_element(name, bits):
    """32 elements share 8 bits (MX), 16 elements share 8 bits (NVFP4)."""
    assert get_format(name).bits_per_element == bits


@pytest.mark.parametrize("text", ["fp16", "FP16", "Half", "float16", "mxfp4", "nvfp4", "FP8-E4M3", "int8"])
def test_names_are_forgiving(text):
    assert get_format(text) in spec.FORMATS.values()


def test_unknown_name_suggests():
    with pytest.raises(ValueError, match="did you mean BF16"):
        get_format("BF61")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", 5, 10, 15, "iee", ""), "specials must be one of"),
        (("x", 0, 3, 0, "finite", ""), "at least 1 exponent bit"),
        (("x", 12, 3, 2047, "ieee", ""), "beyond a Python float"),
        (("x", 1, 2, 0, "ieee", ""), "no normal number is left"),
    ],
)
def test_impossible_formats_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FloatSpec(*arguments)


def test_unsigned_fnuz_is_refused():
    with pytest.raises(ValueError, match="must be signed"):
        FloatSpec("x", 4, 3, 8, "fnuz", "", signed=False)
