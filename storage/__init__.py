"""Everything Corral keeps: one SQLite file, written by one thread. Begin with `store.py`."""
