"""Widgets: things to click. Each works live in Jupyter, in a page or slide without a kernel, and as a picture.

static          any widget as a fragment of HTML that needs no kernel, with a picture where no script may run
float_picture   one number of one format as a still: SVG, and lines of text
float_explorer  click the bits of a number, type a value, compare what every format makes of it
                (float_codec.js the arithmetic, float_explorer.js the page, float_explorer.css its looks)
"""
