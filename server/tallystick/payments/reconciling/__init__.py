"""The books compared with the chain."""
