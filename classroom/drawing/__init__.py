"""One style for all figures, and tables for slides.

style     palette, presets and the way a figure is shown: one SVG for light and dark, with alt text
training  curves of a run
tables    bit strips and tables for slides
"""
