"""Efficient training and fine-tuning of large language models: the code that the course teaches with.

formats       number formats as data; encode, decode and round, for one number and for tensors
quantization  numbers in few bits: blockwise codes
memory        where the bytes of a training step go: planned, measured, and made to fit
training      the training loop: scaler, optimizer, schedule and log are passed in
models        the embedded language model: its corpus, its task, how it is made, loaded and fine-tuned
amp           mixed precision: autocast, loss scaling, master weights, statistics of gradients
optim         optimizers by what they remember: AdamW, 8-bit, Adafactor, paged
throughput    tokens a second: batches, waits, FLOPs, profiles, logs, energy
figures       the plots of the course, one module a lecture, one style for all
widgets       interactive explorers that also work in a page without a kernel
classroom     what a notebook imports to teach: machine check, predictions, exercise checks, source display
processor     which instructions the CPU multiplies with: BF16 units or none
publish       what authors and CI run: build notebooks, exercises, slides and the claims register
cli           the `coursekit` command
"""
