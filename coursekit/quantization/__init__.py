"""Quantisation: fewer bits a number, and what that costs.

nearest    the nearest of up to 256 values by one exact lookup; the dynamic map of the 8-bit optimizers
blockwise  8 bits a number with one scale a block: the exact form of bitsandbytes' quantize_blockwise
"""
