"""The part of edgematrix that runs on the device: standard library, numpy and one runtime, nothing else."""

__version__ = "0.1.0"
