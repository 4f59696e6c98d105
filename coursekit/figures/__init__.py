"""The figures of the course: one style for all, one module a lecture.

style       palette, presets and the way a figure is shown: one SVG for light and dark, with alt text
training    curves of a run
start       the Start page: what a fine-tune holds in memory
formats     lecture 1: layouts, ranges, spacing, running sums, histograms, blocks
tables      lecture 1: bit strips and tables for slides
network     lecture 1: weights, activations and gradients of a small network
amp         lecture 2: curves of recipes, gradients over ranges, scales, ledgers, flows
memory      lecture 3: timelines and phases of a step, ledgers, saved tensors, errors, trade-offs, decisions
throughput  lecture 4: waste, packing, roofline, flames, speeds, FLOPs
"""
