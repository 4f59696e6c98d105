"""Efficient training and fine-tuning of large language models: the code that the course teaches, in lecture order.

formats       lecture 1: number formats as data; encode, decode and round, for one number and for tensors
amp           lecture 2: mixed precision: autocast, loss scaling, master weights, statistics of gradients
memory        lecture 3: where the bytes of a training step go: planned, measured, and made to fit
optim         lecture 3: optimizers by what they remember: AdamW, 8-bit, Adafactor, paged
throughput    lecture 4: tokens per second: batches, waits, FLOPs, profiles, logs, energy
quantization  lecture 8, and the 8-bit states of lecture 3: numbers in few bits, blockwise codes
training      all lectures: THE training loop; scaler, optimizer, schedule and log are passed in
widgets       interactive explorers, each works alone and in a page without a kernel
processor     which instructions the CPU multiplies with: BF16 units or none
units         GB and GiB
cli           `coursekit plan`; the other commands come from `classroom`
"""
