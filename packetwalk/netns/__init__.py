"""One Linux network namespace as a pure machine: packets and times in, steps out. No I/O, no clock, no dice."""
