"""Pure batched functions on tensors: one algorithm a file, its reference beside it."""
