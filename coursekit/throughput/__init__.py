"""Throughput: more tokens a second from the same machine, and how to see where they go.

batching      padding measured, and batches of like lengths
packing       several texts in a row, each blind to the others
flops         the FLOPs of a step, counted from shapes: equal to torch's counter; MFU
meter         how fast a step is: medians, in turns, the warm-up apart
roofline      what this machine can reach, and where operations stand below it
profiling     where the time goes: operations, functions, a trace
flame         the tree of calls, for a flame graph
syncs         lines that make Python wait for the GPU
gpu           what the GPU says of itself
allocators    which malloc is at work, and another one tried in a fresh process
tracking      one interface to log a run; lines of JSON
backends      TensorBoard, Weights & Biases and Aim behind it
energy_meter  joules, from the meters of the GPU and the processor
energy        kWh, CO2 and price, from joules or from assumptions; they are shown
"""
