"""Unused credits back in USDC, to the wallet that paid for them (docs/decisions/0027)."""
