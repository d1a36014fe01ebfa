"""Judging text: guards, policies, and the gate on a growing reply. Knows strings, nothing else."""
