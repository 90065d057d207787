"""What is sold: features, prices, packs; read from TOML and checked."""
