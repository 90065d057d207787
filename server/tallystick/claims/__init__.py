"""One permanent claim for each payment authorization."""
