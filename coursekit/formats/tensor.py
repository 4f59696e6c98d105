"""Encode, decode and round whole tensors: any shape, any float or integer dtype, any device.

    >>> from coursekit.formats.spec import E4M3
    >>> decode(encode(torch.tensor([0.1, -3.0, 500.0]), E4M3), E4M3)
    tensor([ 0.1016, -3.0000,     nan])

It equals `scalar` on every code and in every special case; see the table there. The arithmetic is in
`rounder`; this module checks the input and passes it on in pieces that stay in the cache. Float64 input,
and formats whose exponent is as wide as float32's, are computed in float64, so that nothing is rounded twice.

Left out: gradients. Rounding is flat almost everywhere, and results are detached. For a straight-through
estimate write `x + (round_to(x, fmt) - x).detach()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from coursekit.formats import lookup
from coursekit.formats.rounder import FLOAT32, FLOAT64, Carrier, FloatRounder, IntRounder, Scratch
from coursekit.formats.scalar import ROUNDINGS
from coursekit.formats.spec import FloatSpec, IntSpec

PIECE = 1 << 16  # elements; input, output and scratch of this size share a cache of 1 to 2 MiB
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32)


def encode(
    x: Tensor,
    fmt: FloatSpec | IntSpec,
    *,
    rounding: str = "nearest_even",
    saturate: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Codes [...] of the numbers in `fmt` that x [...] rounds to.

    x         any shape, float or integer; every value is taken exactly, int64 and float64 too
    returns   same shape, one code per element: uint8 up to 8 bits, int32 up to 31, int64 for 32
    rounding  one of scalar.ROUNDINGS; "stochastic" draws from `generator` (None: torch's default one)

    Raises TypeError for bool, complex and uint64 input, ValueError for an unknown rounding.
    """
    check_input(x)
    out = torch.empty(x.shape, dtype=code_dtype(_check_format(fmt)), device=x.device)
    # A lookup has one scratch buffer and not three, so its pieces may be longer.
    length = 2 * PIECE if lookup.applies(x, fmt, rounding) else PIECE
    encode_pieces(_flat_pieces(x, out, length), x, fmt, rounding, saturate, generator)
    return out


def encode_pieces(
    pieces: Iterable[tuple[Tensor, Tensor]],
    like: Tensor,
    fmt: FloatSpec | IntSpec,
    rounding: str,
    saturate: bool,
    generator: torch.Generator | None,
) -> None:
    """Write codes for pieces (x [n], out [n]) of a tensor; `like` has their dtype and their length in all."""
    rounder = _rounder(like, fmt, rounding, saturate, generator)
    if not lookup.applies(like, fmt, rounding):
        for x_piece, out_piece, scratch in _with_scratch(pieces, rounder.carrier):
            rounder.codes(x_piece, out_piece, scratch)
        return
    # The keys are too few for a lookup themselves, so this encode() goes through the rounder.
    table = encode(lookup.key_values(fmt, like.device), fmt, rounding=rounding, saturate=saturate)
    key = torch.empty(0, dtype=torch.int32, device=like.device)
    for x_piece, out_piece in pieces:
        key = key.new_empty(x_piece.shape) if key.numel() < x_piece.numel() else key[: x_piece.numel()]
        lookup.look_up(table, x_piece, out_piece, key)


def round_to(
    x: Tensor,
    fmt: FloatSpec | IntSpec,
    *,
    rounding: str = "nearest_even",
    saturate: bool = False,
    generator: torch.Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The numbers in `fmt` that x [...] rounds to: [...] in x's own float dtype (float32 for integers and float8).

    Arguments as in encode(). `out` receives the result and may be x itself. A rounded number that x's dtype
    cannot hold is converted as torch does it (float16 65504 is 65536 in BF16, which as float16 is inf).

    Raises as encode(), and ValueError if `out` does not match.
    """
    rounder = _rounder(check_input(x), _check_format(fmt), rounding, saturate, generator)
    dtype = x.dtype if x.dtype in FLOATS else torch.float32
    if out is None:
        out = torch.empty(x.shape, dtype=dtype, device=x.device)
    if (out.shape, out.dtype, out.device) != (x.shape, dtype, x.device):
        raise ValueError(
            f"out must be {dtype}, {tuple(x.shape)}, on {x.device}; "
            f"got {out.dtype}, {tuple(out.shape)}, on {out.device}. "
            "Leave it out, or make it with torch.empty_like(x)."
        )
    target = out.detach()
    if not out.is_contiguous():  # pieces are views of a flat tensor, so round into another one first
        target = torch.empty_like(out, memory_format=torch.contiguous_format)
    for x_piece, out_piece, scratch in _with_scratch(_flat_pieces(x, target), rounder.carrier):
        rounder.values(x_piece, out_piece, scratch)
    if target.data_ptr() != out.data_ptr():  # out is not contiguous
        out.detach().copy_(target)
    return out


def decode(codes: Tensor, fmt: FloatSpec | IntSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers [...] that the codes [...] stand for, as `dtype` (float32 holds every format of the course exactly).

    codes  integers of any shape, 0 to 2^bits - 1

    Many short codes are looked up in the table of all values: faster than computing each. Raises TypeError
    if the codes are not integers, ValueError if one has more bits than the format.
    """
    _check_codes(codes, fmt)
    if fmt.bits > 16 or codes.numel() <= 1 << fmt.bits:  # the table would be longer than the tensor
        return _values_of(codes, fmt).to(dtype)
    table = all_values(fmt, dtype, codes.device)
    out = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    for codes_piece, out_piece in _flat_pieces(codes, out):
        torch.index_select(table, 0, codes_piece.to(torch.int32), out=out_piece)
    return out


def all_values(
    fmt: FloatSpec | IntSpec, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """[2^bits] the number of every code, in the order of the codes. Raises ValueError beyond 19 bits."""
    _check_format(fmt)
    if fmt.bits > 19:
        raise ValueError(f"{fmt.name} has 2^{fmt.bits} codes, too many to list. Decode the ones you need.")
    return _values_of(torch.arange(1 << fmt.bits, device=device), fmt).to(dtype)


def code_dtype(fmt: FloatSpec | IntSpec) -> torch.dtype:
    """The integer type that holds one code per element."""
    if fmt.bits <= 8:
        return torch.uint8
    return torch.int32 if fmt.bits < 32 else torch.int64  # int32 has 31 bits beside its sign


def _values_of(codes: Tensor, fmt: FloatSpec | IntSpec) -> Tensor:
    """float64 [...] of integer codes [...]: the definition in `spec`, term by term."""
    codes = codes.to(torch.int64)
    if isinstance(fmt, IntSpec):
        negative = (codes >> (fmt.bits - 1)) * fmt.signed  # 1 or 0
        return (codes - (negative << fmt.bits)).double() * fmt.ulp
    magnitude = codes & ~fmt.sign_mask
    field = magnitude >> fmt.mantissa_bits
    hidden_one = (field > 0).long() if fmt.subnormals else torch.ones_like(field)
    n = (magnitude & ((1 << fmt.mantissa_bits) - 1)) + (hidden_one << fmt.mantissa_bits)
    exponent = field.clamp(min=int(fmt.subnormals)) - fmt.bias
    ulp = ((exponent - fmt.mantissa_bits + 1023) << 52).view(torch.float64)  # 2^k, written down as its bits
    values = (n * ulp).masked_fill_(magnitude > fmt.max_code, torch.nan)
    if fmt.inf_code is not None:
        values.masked_fill_(magnitude == fmt.inf_code, torch.inf)
    if fmt.specials == "fnuz":
        values.masked_fill_(codes == fmt.nan_code, torch.nan)
    return torch.where((codes & fmt.sign_mask) != 0, -values, values)


def _with_scratch(
    pieces: Iterable[tuple[Tensor, Tensor]], carrier: Carrier
) -> Iterator[tuple[Tensor, Tensor, Scratch]]:
    """(piece of x as the carrier's floats [n], piece of out [n], scratch for n)."""
    n = -1
    for x_piece, out_piece in pieces:
        if x_piece.numel() != n:  # the first piece, and a shorter last one
            n = x_piece.numel()
            scratch = Scratch(n, carrier, x_piece.device)
        yield _carried(x_piece, carrier), out_piece, scratch


def _flat_pieces(x: Tensor, out: Tensor, length: int = PIECE) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of both that fit a CPU's cache. A GPU, or a compiler that fuses operations, gets all at once."""
    whole = x.device.type != "cpu" or torch.compiler.is_compiling()
    size = max(x.numel(), 1) if whole else length
    return zip(x.detach().reshape(-1).split(size), out.view(-1).split(size), strict=True)


def _carried(x: Tensor, carrier: Carrier) -> Tensor:
    """x as the carrier's floats, exactly as far as any format can tell.

    An int64 beyond 2^53 has more bits than a float64: its last 11 become a single one that says "there was
    more" (rounding to odd), so that rounding to any format comes out as if from the integer itself.
    """
    if x.dtype != torch.int64:
        return x.to(carrier.float)
    rest = x & 0x7FF
    sticky = x - rest + (rest != 0) * 0x400
    return torch.where((x >= -(1 << 53)) & (x <= 1 << 53), x, sticky).to(carrier.float)


def _rounder(x: Tensor, fmt: FloatSpec | IntSpec, rounding: str, saturate: bool, generator):
    """The rounder for these inputs. Raises ValueError for an unknown rounding, or a format that is too wide."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}; got {rounding!r}.")
    wide = x.dtype in (torch.float64, torch.int64, torch.int32, torch.uint32)  # more digits than float32 has
    if isinstance(fmt, IntSpec):
        return IntRounder(fmt, FLOAT64 if wide or fmt.bits > 16 else FLOAT32, rounding, generator)
    carrier = FLOAT32 if not wide and FLOAT32.holds(fmt) else FLOAT64
    if not carrier.holds(fmt):
        raise ValueError(
            f"{fmt.name} is too wide for the arithmetic here, which has float64 to work in. "
            "Use formats.scalar, or a format with at most 8 exponent and 23 mantissa bits."
        )
    return FloatRounder(fmt, carrier, rounding, saturate, generator)


def check_input(x: Tensor) -> Tensor:
    """Returns x itself; raises TypeError unless it is a tensor of real numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a torch.Tensor, got {type(x).__name__}. Use torch.as_tensor(x).")
    if not (x.dtype.is_floating_point or x.dtype in INTEGERS):
        raise TypeError(f"expected real numbers, got {x.dtype}. Convert first, for example x.float().")
    return x


def _check_format(fmt: FloatSpec | IntSpec) -> FloatSpec | IntSpec:
    if isinstance(fmt, (FloatSpec, IntSpec)):
        return fmt
    raise TypeError(
        f"expected a FloatSpec or IntSpec, got {type(fmt).__name__}. "
        "spec.get_format(name) finds a format by its name; block formats are in formats.block."
    )


def _check_codes(codes: Tensor, fmt: FloatSpec | IntSpec) -> None:
    _check_format(fmt)
    if not isinstance(codes, Tensor) or codes.dtype not in INTEGERS:
        got = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
        raise TypeError(
            f"expected codes in a tensor of integers, got {got}. Use encode() to get codes from values."
        )
    unsigned_fits = not codes.dtype.is_signed and torch.iinfo(codes.dtype).bits <= fmt.bits
    if unsigned_fits or codes.numel() == 0 or torch.compiler.is_compiling():
        return  # nothing can be too large; and a compiled graph cannot look at the values
    low, high = (int(v) for v in codes.to(torch.int64).aminmax())
    if low < 0 or high >= 1 << fmt.bits:
        raise ValueError(
            f"codes of {fmt.name} lie in 0 to {(1 << fmt.bits) - 1}, got {low} to {high}. "
            "Check the format; int8 codes become unsigned by codes.view(torch.uint8)."
        )
