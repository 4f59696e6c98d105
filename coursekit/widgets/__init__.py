"""Widgets: things to click. Each works live in Jupyter, without a kernel in a page or slide, or as a still.

static          any widget as a fragment of HTML that needs no kernel, with a picture where no script may run
float_picture   one number of one format as a still: SVG, and lines of text
chat_box        talk to a model (its own .js draws)
float_explorer  click the bits, type a value, compare formats (float_codec.js computes, its own .js draws)
"""
