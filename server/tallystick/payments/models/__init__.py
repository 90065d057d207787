"""Tables of payments, and the words that are in them."""
