"""All faults and controls. Each module has one kind; `base` says what they have in common."""

from . import clients, computing, controls, database, external, house, pools, waiting
from .base import FRAMEWORKS, HOSTS, TIMEOUT, Fault, Impossible, Unproven, View

FAULTS = [
    fault
    for module in (external, database, pools, computing, waiting, clients, house, controls)
    for fault in module.FAULTS
]

__all__ = ["FAULTS", "FRAMEWORKS", "HOSTS", "TIMEOUT", "Fault", "Impossible", "Unproven", "View"]
