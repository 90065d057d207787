"""The chain as we read and write it: blocks, logs, fees, transactions; no database."""
