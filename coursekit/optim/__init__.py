"""Optimizers by what they store per parameter: 8 bytes, 2 bytes, almost nothing, or 8 bytes kept elsewhere.

per_parameter  what all of them share: one parameter at a time, states that are saved unchanged
adamw          AdamW, two numbers per parameter; equal to torch.optim.AdamW
adamw8bit      AdamW with block-wise 8-bit states: 2.03 bytes per parameter instead of 8
adafactor      the second moment of a matrix from its row and column means; equal to torch.optim.Adafactor
paged          AdamW whose states live in host memory or in a file and visit the device page by page
"""
