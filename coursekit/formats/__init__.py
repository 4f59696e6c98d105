"""Number formats: from five facts about a format to its codes, its numbers and its arithmetic.

spec       a number format as one frozen record, and the table of all of them
scalar     decode, encode and round one number, every rule spelled out: the definition (bare Python)
rounder    rounding without a branch: the hardware's addition does it
lookup     the same codes by one table lookup, for the small formats
tensor     the same as scalar for whole tensors, equal to it on every code
block      many elements that share one scale: MXFP8, MXFP6, MXFP4, MXINT8 and NVFP4
summation  what rounding does to a long sum, and the remedies: Kahan, pairwise, stochastic rounding
"""
