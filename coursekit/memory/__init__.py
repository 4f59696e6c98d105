"""Where the bytes of a training step go: planned to the byte without torch, measured, and made to fit.

config         read a config.json with care: every field is checked, a wrong one is named
architecture   every weight of a model with its name and shape, from its config; the number of parameters
ledger         bytes per parameter: the named ledgers, and what each optimizer keeps
tape           a shadow of autograd: tensors that have a size and no content
operations     what each operation allocates, saves, and allocates in backward
activations    the forward and backward pass of a language model on shadows
plan           one way to train one model, as data
validate       impossible plans, rejected with the reason
totals         what follows from shapes: weights, gradients, states, and the share of each rank
planner        the bytes of a step by category and phase, and its peak
cards          the cards people train on, as data
fit            does a plan fit a card, and the cheapest ways to make it fit
plan_report    a plan's verdict as tables and as plain data
formulas       what others estimate
fragmentation  what a caching allocator adds to what tensors need
measure        saved tensors, allocator events, the peak of a real step
checkpoint     gradient checkpointing by hand
"""
