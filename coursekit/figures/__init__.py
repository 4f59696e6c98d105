"""The figures of the course: each computes what it draws from the package it illustrates, and its title says the finding.

style           palette, presets and the way a figure is shown: one SVG for light and dark, with alt text
formats         lecture 1, for the notebook and the deck: layouts, ranges, spacing, running sums, histograms, blocks
slides_formats  lecture 1, for the deck alone: wide pictures without titles
slides_tables   lecture 1, for the deck alone: tables and bit strips
slides_data     lecture 1, for the deck alone: weights, activations and gradients of a small network
"""
