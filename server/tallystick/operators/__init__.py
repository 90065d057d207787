"""Who of the seller's did something by hand, to what, and why."""
