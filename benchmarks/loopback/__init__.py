"""Devices on this computer for benchmarks and tests: a real OpenSSH server and a link in front of it that can be cut."""
