"""Our own keys: what they sign, send, replace and push."""
