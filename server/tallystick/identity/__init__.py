"""How a caller proves who it is: keys and wallet signatures."""
