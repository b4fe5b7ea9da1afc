"""Driving packets through a network: the SimPy engine, what things cost, and `walk`."""
