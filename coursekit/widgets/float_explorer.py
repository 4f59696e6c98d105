"""Float explorer: click the bits of a number, type a value, see what every format makes of it.

The page (float_explorer.js) does the interaction and the arithmetic, so that it also works without a kernel.
Python mirrors its state in traits, validates what is set from here, and draws the still picture for places
that do not run scripts.

    explorer = FloatExplorer("FP16", 0.1)
    explorer.code                   # 11878, follows every click
    explorer.fmt = "BF16"           # the value stays, the code follows

A saved notebook holds, beside the live view, text/html with the fragment of `static` (live in an HTML export
or a trusted notebook, a picture on GitHub) and text/plain with a table. Left out: block formats.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import anywidget
import traitlets

from coursekit.formats.scalar import decode, encode
from coursekit.formats.spec import FLOATS, FloatSpec, get_format
from coursekit.widgets import float_picture
from coursekit.widgets.static import fragment

HERE = Path(__file__).parent
CODEC_IMPORT = re.compile(r'^import \{.*\} from "\./float_codec\.js";$', re.MULTILINE)
STATE = ("fmt", "code", "typed", "saturate", "formats")


def _module() -> str:
    """The page's source with the codec inlined for its import: an anywidget is one module."""
    page = (HERE / "float_explorer.js").read_text(encoding="utf-8")
    codec = (HERE / "float_codec.js").read_text(encoding="utf-8")
    module, replaced = CODEC_IMPORT.subn(lambda line: codec, page)
    assert replaced == 1, "float_explorer.js must import float_codec.js in exactly one line"
    return module


# What the page needs to know of each format.
FORMAT_RECORDS = {spec.name: {**asdict(spec), "bits": spec.bits} for spec in FLOATS}


class FloatExplorer(anywidget.AnyWidget):
    """The float explorer.

    Traits, synchronised with the page: `fmt` (name of a floating-point format), `code` (its bits, an integer),
    `typed` (the value asked for, as text, since JSON has no NaN), `saturate` (too large values become the
    largest number). Setting `fmt`, `typed` or `saturate` encodes again; setting `code` makes its number the
    value. `value` and `stored` are the two numbers as floats.

    Raises traitlets.TraitError for an unknown format, a code with too many bits or text that is not a number.
    """

    _esm = _module()
    _css = (HERE / "float_explorer.css").read_text(encoding="utf-8")

    fmt = traitlets.Unicode("FP16").tag(sync=True)
    code = traitlets.Int(0).tag(sync=True)
    typed = traitlets.Unicode("0.0").tag(sync=True)
    saturate = traitlets.Bool(False).tag(sync=True)
    formats = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self, fmt: str | FloatSpec = "FP16", value: float = 0.1, *, saturate: bool = False, **layout
    ):
        name = fmt.name if isinstance(fmt, FloatSpec) else fmt
        super().__init__(**layout)
        self.set_trait("formats", list(FORMAT_RECORDS.values()))
        self.fmt, self.value, self.saturate = name, value, saturate

    @property
    def spec(self) -> FloatSpec:
        return get_format(self.fmt)

    @property
    def value(self) -> float:
        """The value asked for; `stored` is what the format makes of it."""
        return float(self.typed)

    @value.setter
    def value(self, value: float) -> None:
        self.typed = repr(float(value))

    @property
    def stored(self) -> float:
        return decode(self.code, self.spec)

    @traitlets.validate("fmt")
    def _check_fmt(self, proposal: dict) -> str:
        try:
            spec = get_format(proposal["value"])
        except ValueError as unknown:
            raise traitlets.TraitError(str(unknown)) from None
        if spec not in FLOATS:
            names = ", ".join(f.name for f in FLOATS)
            raise traitlets.TraitError(
                f"{spec.name} has no sign, exponent and mantissa to show; take one of {names}."
            )
        return spec.name

    @traitlets.validate("code")
    def _check_code(self, proposal: dict) -> int:
        code = proposal["value"]
        last = 2**self.spec.bits - 1
        if not 0 <= code <= last:
            raise traitlets.TraitError(
                f"a code of {self.fmt} ({self.spec.bits} bits) lies in 0 to {last}; got {code}."
            )
        return code

    @traitlets.validate("typed")
    def _check_typed(self, proposal: dict) -> str:
        try:
            return repr(float(proposal["value"]))
        except ValueError:
            raise traitlets.TraitError(
                f"expected a number as text, such as '0.1', '-0', 'inf' or 'nan'; got {proposal['value']!r}."
            ) from None

    @traitlets.observe("fmt", "typed", "saturate")
    def _encode(self, change: dict) -> None:
        if not self._agree():
            self.code = encode(self.value, self.spec, saturate=self.saturate)

    @traitlets.observe("code")
    def _decode(self, change: dict) -> None:
        if not self._agree():
            self.value = self.stored

    def _agree(self) -> bool:
        """Whether code and value match: the page sends both at once, and a NaN has many codes."""
        if self.code >= 2**self.spec.bits:
            return False
        same = repr(self.stored) == repr(self.value)
        return same or self.code == encode(self.value, self.spec, saturate=self.saturate)

    def to_html(self) -> str:
        """The explorer in its present state as a fragment of HTML that needs no kernel (exports, slides)."""
        state = {name: getattr(self, name) for name in STATE}
        picture = float_picture.svg(self.value, self.code, self.spec)
        alt = float_picture.describe(self.value, self.code, self.spec)
        caption = "Float explorer. Run this cell, or open the notebook as HTML, and the bits can be clicked."
        return fragment(self._esm, self._css, state, picture, alt, caption)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        text = float_picture.lines(self.value, self.code, self.spec, FLOATS, self.saturate)
        return {**data, "text/plain": text, "text/html": self.to_html()}, metadata
