"""The device lab: emulated devices on this machine, each with a network, a root and a process space of its own, behind a real SSH server.

Nothing of the product knows it, save the command that starts it: to the product these are devices like others, marked as emulated.
"""

from deploy.lab.definition import LabDefinition, load_definition
from deploy.lab.lab import FOLDER, Lab, MachineStatus
from deploy.lab.plant_lifecycle import plant_of

__all__ = ["FOLDER", "Lab", "LabDefinition", "MachineStatus", "load_definition", "plant_of"]
