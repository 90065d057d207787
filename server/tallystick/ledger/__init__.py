"""Double entry: accounts, transfers, balances; no HTTP, no vendor, one writer."""
