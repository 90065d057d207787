"""Keys, and the nonces that were used."""

from tallystick.migrations.columns import big, blob, index, table, text


def _api_key() -> None:
    table(
        "api_key",
        big("id"),
        text("kind"),
        big("customer_id", null=True),
        text("name"),
        blob("secret_mac", 32),
        text("scopes"),
        big("created_at_ms"),
        big("expires_at_ms", null=True),
        big("revoked_at_ms", null=True),
        checks={"kind": "kind IN ('customer', 'service')"},
        refers={"customer_id": "customer.id"},
    )
    index("ix_api_key_customer_id", "api_key", ["customer_id"])


def _used_nonce() -> None:
    table(
        "used_nonce",
        blob("nonce_digest", 16),
        big("expires_at_ms"),
        key=("nonce_digest",),
    )
    index("ix_used_nonce_expires_at_ms", "used_nonce", ["expires_at_ms"])


TABLES = {"api_key": _api_key, "used_nonce": _used_nonce}
