"""What every room stands on: money, errors, database, ids, clock, log.

The kernel knows nothing of credits, chains or HTTP, and imports no other room.
"""
