"""Gas money: what settling may cost, and what it has cost."""
