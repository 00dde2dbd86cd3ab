"""Several processes on one port: the supervisor, its workers, what they say to each other, their admin port.

Each process imports what it is: nothing is gathered here.
"""
