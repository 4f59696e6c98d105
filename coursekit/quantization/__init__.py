"""Quantisation: fewer bits per number, and what that costs.

nearest    the nearest of up to 256 values, by search and by one exact lookup; the dynamic map of the 8-bit optimizers
blockwise  8 bits per number with one scale per block: the exact form of bitsandbytes' quantize_blockwise
"""
