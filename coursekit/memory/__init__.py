"""Where the bytes of a training step go: predicted without a GPU, and measured."""
