"""A fleet of simulated devices under the real control plane: only the bytes on the wire and the time on the devices are faked."""
