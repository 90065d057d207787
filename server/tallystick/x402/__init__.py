"""The x402 protocol, without a database: wire types, headers, exact-EVM checks."""
