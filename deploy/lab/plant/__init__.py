"""The thermal plant: a process that gives an emulated device a temperature of a known truth, and a governor that slows it down.

Standard library only; it runs outside of the device, which sees nothing of it but files where a board has its sysfs.
"""
