"""``tallystick doctor``: looks at everything that a payment needs, and changes nothing."""
