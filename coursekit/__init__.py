"""Efficient training and fine-tuning of large language models: the code that the course teaches with.

formats      number formats as data; encode, decode and round, for one number and for tensors
figures      the plots of the course, one module a lecture, one style for all
widgets      interactive explorers that also work in a page without a kernel
classroom    what a notebook imports to teach: machine check, predictions, exercise checks, source display
publish      what authors and CI run: build notebooks, exercises, slides and the claims register
cli          the `coursekit` command
"""
