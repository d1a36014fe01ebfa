"""Messages → text on this machine. Begin with `base.py`, then `local.py`."""

import os

# How long a thread of GNU's OpenMP, which torch uses on Linux, spins at the end of a parallel
# region before it sleeps; read when torch is imported. Its default burns whole time slices when
# another program has the core that the last thread needs: on two busy cores a step of a 30 M model
# took 10 times as long. Long enough for the gap between two regions on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
