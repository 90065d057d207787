"""Addresses in every way of writing that is taken, and what is none."""

from tallystick.x402.keccak import checksum_address

LOWER = "0x" + "11" * 20
MIXED = checksum_address(bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"))
ADDRESSES = (LOWER, MIXED, MIXED.lower(), "0x" + MIXED[2:].upper())
NO_ADDRESSES = (
    "notanaddress",
    "0x12",
    "11" * 20,
    LOWER + "1",
    LOWER[:-1] + "g",
    LOWER.replace("0x", "0X"),
    f" {LOWER}",
    f"{LOWER}\n",
    MIXED[:-1] + MIXED[-1].swapcase(),
    "",
)
