"""The only package that knows CUDA and CuPy."""
