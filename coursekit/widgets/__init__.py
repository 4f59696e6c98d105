"""Widgets: things to click. Each works live in Jupyter, without a kernel in a page or slide, or as a still.

static               any widget as a fragment of HTML that needs no kernel, with a picture where no script may run
float_picture        one number of one format as a still: SVG, and lines of text
chat_box             talk to a model (its own .js draws)
memory_picture       the memory of a training step as a still: SVG, and a table of plain text
float_explorer       click the bits, type a value, compare formats (float_codec.js computes, its own .js draws)
memory_coefficients  the bytes of a step as polynomials in batch and sequence, for a page without Python
memory_explorer      choose a model and a method, see what fills the card (memory_sum.js adds up, its own .js draws)
"""
