"""Money coming in: quotes, top-ups, the relayer, reconciliation with the chain."""
