"""Money coming in: top-ups, from a signed payment to credits, and back out of them.

    a payment ──▶ presented ──▶ topups ──▶ settler ──▶ relaying or facilitated ──▶ chain
    chain ──▶ observer ──▶ observing ──▶ the ledger;  reconciling compares the two

``machine`` decides and writes nothing; ``rail`` is what a process knows of its chain.
"""
