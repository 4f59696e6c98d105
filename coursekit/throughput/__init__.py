"""Throughput: more tokens per second from the same machine, and how to see where time is lost.

batching      padding measured, and batches of similar lengths
packing       several texts in one row, each unable to see the others
flops         the FLOPs of a step, counted from shapes: equal to torch's counter; MFU
meter         how fast a step is: medians, in turns, the warm-up apart
roofline      what this machine can reach, and where operations stand below it
profiling     where the time goes: operations, functions, a trace
flame         the tree of calls, for a flame graph
syncs         which lines make Python wait for the GPU
gpu           load, memory, power and energy of the GPU, read through NVML
allocators    which malloc a process uses, and another one tried in a fresh process
tracking      one interface to log a run; its simplest backend, lines of JSON
backends      TensorBoard, Weights & Biases and Aim behind it
energy_meter  joules, from the meters of the GPU and the processor
energy        kWh, CO2 and price, from joules or from assumptions, which are shown
"""
