"""Credits going out: charges, and holds that become charges."""
