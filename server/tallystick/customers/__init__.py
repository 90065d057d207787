"""Customers and the wallets that are theirs."""
