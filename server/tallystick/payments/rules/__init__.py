"""What an operator sets: plain values without a database."""
