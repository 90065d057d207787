"""Other sellers, whose payments we settle as their facilitator."""
