"""Optimizers by what they remember of each parameter: 8 bytes, 2 bytes, next to nothing, or 8 bytes kept elsewhere.

per_parameter  what all of them share: one parameter at a time, states that are saved as they are
adamw          AdamW, two numbers a parameter; equal to torch.optim.AdamW
adamw8bit      AdamW with block-wise 8-bit states: 2.03 bytes a parameter instead of 8
adafactor      the second moment of a matrix from its row and column means; equal to torch.optim.Adafactor
paged          AdamW whose states live in host memory or in a file and visit the device page by page
"""
