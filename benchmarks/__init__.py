"""Where the performance figures come from: ``python -m benchmarks`` measures all of them and writes a dated summary into ``results/``."""
