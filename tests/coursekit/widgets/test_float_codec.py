"""The page's arithmetic agrees with Python: one run of node over every code of every format up to 16 bits."""

import itertools
import json
import math
import random
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from coursekit.formats import scalar
from coursekit.formats.spec import BF16, E8M0, FLOATS, FP16, FP32
from coursekit.widgets import float_picture
from coursekit.widgets.float_explorer import FORMAT_RECORDS

pytestmark = pytest.mark.node

CODEC = Path(float_picture.__file__).with_name("float_codec.js")
SCRIPT = Path(__file__).with_name("float_codec_parity.mjs")
CODE_COLUMNS = ("decode", "encode", "sign", "exponent", "mantissa", "kind", "ulp", "next")
VALUE_COLUMNS = ("encode", "saturated", "ulp", "below", "above")
KINDS = ("normal", "subnormal", "zero", "infinity", "NaN")
EXHAUSTIVE = [fmt for fmt in FLOATS if fmt.bits <= 16]
ML_DTYPES = {
    "BF16": ml_dtypes.bfloat16, "E5M2": ml_dtypes.float8_e5m2, "E4M3": ml_dtypes.float8_e4m3fn,
    "E3M2": ml_dtypes.float6_e3m2fn, "E2M3": ml_dtypes.float6_e2m3fn, "E2M1": ml_dtypes.float4_e2m1fn,
    "E8M0": ml_dtypes.float8_e8m0fnu, "E4M3_IEEE": ml_dtypes.float8_e4m3, "E3M4": ml_dtypes.float8_e3m4,
    "E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "E4M3B11FNUZ": ml_dtypes.float8_e4m3b11fnuz,
}  # fmt: skip
READS = {
    "0.1": ["0.1", None], " 1e-3 ": ["0.001", None], ".5": ["0.5", None], "1_000": ["1000", None],
    "−5": ["-5", None], "-0": ["-0", None], "inf": ["inf", None], "-INF": ["-inf", None],
    "nan": ["nan", None], "1/0": ["inf", None], "1/3": ["0.3333333333333333", None],
    "2^-24": ["5.960464477539063e-8", None], "2**10": ["1024", None], "0x3C00": ["1", 0x3C00],
    "0b11": ["1.7881393432617188e-7", 3],
    "0x1FFFF": None, "": None, "one": None, "1e": None, "--1": None, "0x": None, "1/2/3": None,
}  # fmt: skip
EXACT = [
    "0.1",
    "5e-324",
    "1e22",
    "-0.0999755859375",
    "3.4028234663852886e+38",
    "1.5",
    "65504",
    "70000",
    "1e-46",
]


def codes_of(fmt):
    """All codes up to 16 bits; of the two longer formats the ends of every binade and 20,000 at random."""
    if fmt.bits <= 16:
        return list(range(2**fmt.bits))
    ends = [(field << fmt.mantissa_bits) + nudge for field in range(1, 256) for nudge in (-2, -1, 0, 1)]
    ends += [0, 2 ** (fmt.bits - 1) - 1, *(code | fmt.sign_mask for code in ends)]
    return ends + random.Random(1).sample(range(2**fmt.bits), 20_000)


def values_of(fmt):
    """Midpoints between neighbours with a nudge to either side, values at random, and the nasty ones."""
    rng = random.Random(2)
    codes = range(fmt.max_code) if fmt.bits <= 8 else rng.sample(range(fmt.max_code), 700)
    middles = [(scalar.decode(c, fmt) + scalar.decode(c + 1, fmt)) / 2 for c in codes]
    beyond = fmt.max + scalar.ulp(fmt.max, fmt) / 2
    middles += [beyond, fmt.max, fmt.min_subnormal / 2]
    values = [v for m in middles for v in (m, math.nextafter(m, math.inf), math.nextafter(m, 0.0))]
    values += [math.ldexp(rng.random() + 0.5, rng.randint(-160, 140)) for _ in range(300)]
    values += [0.0, math.inf, 1e300, 5e-324, 70000.0, 0.1, 1 / 3]
    return [*values, *(-v for v in values), math.nan]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """What the page's codec answers: {format: (codes, their table, values, their table)} and the texts."""
    folder = tmp_path_factory.mktemp("parity")
    codec = shutil.copy(CODEC, folder / "codec.mjs")
    given = {fmt.name: (codes_of(fmt), values_of(fmt)) for fmt in FLOATS}
    jobs = [
        {"spec": FORMAT_RECORDS[name], "codes": len(c), "values": len(v)} for name, (c, v) in given.items()
    ]
    np.array(list(itertools.chain(*(c + v for c, v in given.values()))), np.float64).tofile(
        folder / "input.f64"
    )
    (folder / "jobs.json").write_text(json.dumps(jobs))
    texts = {"spec": FORMAT_RECORDS["FP16"], "texts": list(READS), "values": EXACT}
    (folder / "texts.json").write_text(json.dumps(texts))
    subprocess.run(["node", SCRIPT, codec, folder], check=True, timeout=60)
    flat, tables = np.fromfile(folder / "output.f64"), {}
    for name, (codes, values) in given.items():
        split = len(codes) * len(CODE_COLUMNS)
        end = split + len(values) * len(VALUE_COLUMNS)
        by_code = dict(zip(CODE_COLUMNS, flat[:split].reshape(len(codes), -1).T, strict=True))
        by_value = dict(zip(VALUE_COLUMNS, flat[split:end].reshape(len(values), -1).T, strict=True))
        tables[name], flat = (codes, by_code, values, by_value), flat[end:]
    assert flat.size == 0
    return tables, json.loads((folder / "texts_out.json").read_text())


def same(ours, theirs):
    """Equal bit for bit, every NaN like every other: -0 is not 0."""
    with np.errstate(invalid="ignore"):  # a signalling NaN of FP32 becomes a quiet one
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    both_nan = np.isnan(ours) & np.isnan(theirs)
    return bool(np.all(both_nan | ((ours == theirs) & (np.signbit(ours) == np.signbit(theirs)))))


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda fmt: fmt.name)
def test_every_code_means_the_same_number(fmt, node):
    codes, table, *_ = node[0][fmt.name]
    assert same(table["decode"], [scalar.decode(c, fmt) for c in codes])
    assert [*zip(table["sign"], table["exponent"], table["mantissa"], strict=True)] == [
        scalar.fields(c, fmt) for c in codes
    ]
    assert [KINDS[int(k)] for k in table["kind"]] == [float_picture.kind(c, fmt) for c in codes]


def test_codes_equal_torch(node):
    """All 65,536 codes of FP16 and BF16, and FP32, against the hardware's own types."""
    for fmt, dtype, integer in ((FP16, torch.float16, torch.int16), (BF16, torch.bfloat16, torch.int16)):
        codes, table, *_ = node[0][fmt.name]
        theirs = torch.tensor(codes).to(integer).view(dtype).double().numpy()
        assert same(table["decode"], theirs)
    codes, table, *_ = node[0]["FP32"]
    assert same(table["decode"], np.array(codes, np.uint32).view(np.float32))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_codes_equal_ml_dtypes(name, node):
    codes, table, *_ = node[0][name]
    width = np.uint16 if name == "BF16" else np.uint8
    assert same(table["decode"], np.array(codes, width).view(ML_DTYPES[name]))


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda fmt: fmt.name)
def test_a_number_of_the_format_gets_its_own_code_back(fmt, node):
    codes, table, *_ = node[0][fmt.name]
    numbers = ~np.isnan(table["decode"])
    assert np.array_equal(table["encode"][numbers], np.array(codes)[numbers])
    assert {int(code) for code in table["encode"][~numbers]} <= {fmt.nan_code}


@pytest.mark.parametrize("fmt", EXHAUSTIVE, ids=lambda fmt: fmt.name)
def test_the_next_number_is_the_next_in_the_sorted_list(fmt, node):
    """Stepping up from any code reaches the next larger of all values; NaN and the last one lead nowhere."""
    _, table, *_ = node[0][fmt.name]
    values = table["decode"]
    ladder = np.append(np.unique(values[~np.isnan(values)]), np.nan)
    start = ~np.isnan(values)
    expected = ladder[np.searchsorted(ladder[:-1], values[start], side="right")]
    assert np.array_equal(table["next"][start], expected, equal_nan=True)
    assert np.isnan(table["next"][~start]).all()


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda fmt: fmt.name)
def test_values_get_the_same_code(fmt, node):
    """Nearest even on midpoints, their two sides, random and special values; saturated and not."""
    *_, values, table = node[0][fmt.name]
    assert table["encode"].tolist() == [scalar.encode(v, fmt) for v in values]
    assert table["saturated"].tolist() == [scalar.encode(v, fmt, saturate=True) for v in values]
    assert same(table["ulp"], [scalar.ulp(v, fmt) for v in values])


@pytest.mark.parametrize("fmt", EXHAUSTIVE, ids=lambda fmt: fmt.name)
def test_neighbours_enclose_the_value(fmt, node):
    """In the sorted list of all values: the last below, the first above; infinity only for finite values."""
    _, by_code, values, table = node[0][fmt.name]
    numbers = by_code["decode"][~np.isnan(by_code["decode"])]
    ladder = np.unique(numbers)
    for value, below, above in zip(values, table["below"], table["above"], strict=True):
        rungs = ladder[np.isfinite(ladder)] if math.isinf(value) else ladder
        lower, upper = rungs[rungs < value], rungs[rungs > value]
        expected = [*(lower[-1:] if lower.size else [math.nan]), *(upper[:1] if upper.size else [math.nan])]
        assert np.array_equal([below, above], expected, equal_nan=True)


@pytest.mark.parametrize("fmt", [FP16, BF16, FP32, E8M0], ids=lambda fmt: fmt.name)
def test_neighbours_equal_scalar(fmt, node):
    *_, values, table = node[0][fmt.name]
    picked = range(0, len(values) - 1, 25)
    theirs = [[math.nan if n is None else n for n in scalar.neighbours(values[i], fmt)] for i in picked]
    assert same([[table["below"][i], table["above"][i]] for i in picked], theirs)


def test_what_a_student_may_type(node):
    """Decimals, fractions, powers, inf, nan, and codes in hex or binary that fit; the rest is unreadable."""
    assert dict(zip(READS, node[1]["reads"], strict=True)) == READS


def test_exact_decimals(node):
    """Every digit, as Python's Decimal has them."""
    for text, (shortest, exact) in zip(EXACT, node[1]["exacts"], strict=True):
        assert Decimal(exact) == Decimal(float(text)) and float(shortest) == float(text)


def test_verdicts_name_what_happened(node):
    verdicts = dict(zip(EXACT, node[1]["verdicts"], strict=True))
    assert verdicts["0.1"] == "-0.0244 %" and verdicts["1.5"] == verdicts["65504"] == "exact"
    assert verdicts["70000"] == verdicts["1e22"] == "overflow" and verdicts["1e-46"] == "underflow"
