"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "chain_cursor",
        sa.Column("chain_id", BIG, nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("pay_to", sa.LargeBinary(length=20), nullable=False),
        sa.Column("first_block", BIG, nullable=False),
        sa.Column("block_number", BIG, nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("opening_balance", BIG, nullable=False),
        sa.PrimaryKeyConstraint(
            "chain_id", "token", "pay_to", name=op.f("pk_chain_cursor")
        ),
    )
    op.create_table(
        "customer",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("created_at_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer")),
    )
    op.create_table(
        "hold",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("customer_id", BIG, nullable=False),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("amount", BIG, nullable=False),
        sa.Column("captured", BIG, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("placed_at_ms", BIG, nullable=False),
        sa.Column("expires_at_ms", BIG, nullable=False),
        sa.Column("settled_at_ms", BIG, nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'captured', 'released', 'expired')",
            name=op.f("ck_hold_state"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_hold_amount")),
        sa.CheckConstraint(
            "captured >= 0 AND captured <= amount",
            name=op.f("ck_hold_captured_within_amount"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hold")),
    )
    with op.batch_alter_table("hold", schema=None) as batch_op:
        batch_op.create_index(
            "ix_hold_open_customer",
            ["customer_id", "expires_at_ms"],
            unique=False,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )
        batch_op.create_index(
            "ix_hold_open_expires_at",
            ["expires_at_ms"],
            unique=False,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )

    op.create_table(
        "installation",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("boots", BIG, nullable=False),
        sa.Column("created_at_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "ledger_account",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("customer_id", BIG, nullable=True),
        sa.CheckConstraint(
            "asset IN ('CREDIT', 'USDC', 'USD')", name=op.f("ck_ledger_account_asset")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_account")),
        sa.UniqueConstraint("code", name=op.f("uq_ledger_account_code")),
        sa.UniqueConstraint("customer_id", name=op.f("uq_ledger_account_customer_id")),
    )
    op.create_table(
        "ledger_transaction",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("memo", sa.String(), nullable=False),
        sa.Column("reverses_id", BIG, nullable=True),
        sa.Column("occurred_at_ms", BIG, nullable=False),
        sa.Column("posted_at_ms", BIG, nullable=False),
        sa.CheckConstraint(
            "kind IN ('topup', 'charge', 'grant', 'suspense', 'reversal')",
            name=op.f("ck_ledger_transaction_kind"),
        ),
        sa.ForeignKeyConstraint(
            ["reverses_id"],
            ["ledger_transaction.id"],
            name=op.f("fk_ledger_transaction_reverses_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_transaction")),
        sa.UniqueConstraint(
            "idempotency_key", name=op.f("uq_ledger_transaction_idempotency_key")
        ),
        sa.UniqueConstraint(
            "reverses_id", name=op.f("uq_ledger_transaction_reverses_id")
        ),
    )
    op.create_table(
        "relayer",
        sa.Column("address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("chain_id", BIG, nullable=False),
        sa.Column("next_nonce", BIG, nullable=False),
        sa.PrimaryKeyConstraint("address", "chain_id", name=op.f("pk_relayer")),
    )
    op.create_table(
        "stored_answer",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("claim_id", BIG, nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.String(), nullable=True),
        sa.Column("body", sa.LargeBinary(length=65536), nullable=True),
        sa.Column("expires_at_ms", BIG, nullable=False),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'not_kept', 'topup')",
            name=op.f("ck_stored_answer_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stored_answer")),
        sa.UniqueConstraint("key", name=op.f("uq_stored_answer_key")),
    )
    with op.batch_alter_table("stored_answer", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_stored_answer_expires_at_ms"),
            ["expires_at_ms"],
            unique=False,
        )

    op.create_table(
        "used_nonce",
        sa.Column("nonce_digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("expires_at_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("nonce_digest", name=op.f("pk_used_nonce")),
    )
    with op.batch_alter_table("used_nonce", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_used_nonce_expires_at_ms"), ["expires_at_ms"], unique=False
        )

    op.create_table(
        "account_balance",
        sa.Column("ledger_account_id", BIG, autoincrement=False, nullable=False),
        sa.Column("balance", BIG, nullable=False),
        sa.Column("held", BIG, nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.CheckConstraint(
            "balance - held >= 0", name=op.f("ck_account_balance_never_overdrawn")
        ),
        sa.CheckConstraint(
            "held >= 0", name=op.f("ck_account_balance_held_not_negative")
        ),
        sa.CheckConstraint(
            "balance < 4611686018427387904",
            name=op.f("ck_account_balance_balance_limit"),
        ),
        sa.ForeignKeyConstraint(
            ["ledger_account_id"],
            ["ledger_account.id"],
            name=op.f("fk_account_balance_ledger_account_id"),
        ),
        sa.PrimaryKeyConstraint("ledger_account_id", name=op.f("pk_account_balance")),
    )
    op.create_table(
        "api_key",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("customer_id", BIG, nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_mac", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("created_at_ms", BIG, nullable=False),
        sa.Column("expires_at_ms", BIG, nullable=True),
        sa.Column("revoked_at_ms", BIG, nullable=True),
        sa.CheckConstraint(
            "kind IN ('customer', 'service')", name=op.f("ck_api_key_kind")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_api_key_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_api_key_customer_id"), ["customer_id"], unique=False
        )

    op.create_table(
        "claim",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("chain_id", BIG, nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("payer", sa.LargeBinary(length=20), nullable=False),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.Column("valid_after", BIG, nullable=False),
        sa.Column("valid_before", BIG, nullable=False),
        sa.Column("binding", sa.LargeBinary(length=16), nullable=False),
        sa.Column("customer_id", BIG, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("charge", BIG, nullable=False),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("hold_id", BIG, nullable=True),
        sa.Column("waiting_until_ms", BIG, nullable=False),
        sa.Column("claimed_at_ms", BIG, nullable=False),
        sa.CheckConstraint(
            "state IN ('claimed', 'waived', 'overtaken', 'settling')",
            name=op.f("ck_claim_state"),
        ),
        sa.CheckConstraint("value > 0", name=op.f("ck_claim_value")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_claim_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claim")),
        sa.UniqueConstraint(
            "chain_id", "token", "payer", "nonce", name="uq_claim_money"
        ),
    )
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_claim_customer_id"), ["customer_id"], unique=False
        )
        batch_op.create_index(
            "ix_claim_unsettled_valid_before",
            ["valid_before"],
            unique=False,
            sqlite_where=sa.text("state IN ('waived', 'claimed')"),
            postgresql_where=sa.text("state IN ('waived', 'claimed')"),
        )

    op.create_table(
        "credit_grant",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("customer_id", BIG, nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("amount", BIG, nullable=False),
        sa.Column("cost_amount", BIG, nullable=True),
        sa.Column("cost_asset", sa.String(), nullable=True),
        sa.Column("ledger_transaction_id", BIG, nullable=False),
        sa.Column("granted_at_ms", BIG, nullable=False),
        sa.CheckConstraint(
            "category IN ('paid', 'trial', 'promotional', 'plan')",
            name=op.f("ck_credit_grant_category"),
        ),
        sa.CheckConstraint(
            "(cost_amount IS NULL) = (cost_asset IS NULL)",
            name=op.f("ck_credit_grant_cost_has_asset"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_credit_grant_amount")),
        sa.ForeignKeyConstraint(
            ["ledger_transaction_id"],
            ["ledger_transaction.id"],
            name=op.f("fk_credit_grant_ledger_transaction_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_grant")),
        sa.UniqueConstraint(
            "ledger_transaction_id", name=op.f("uq_credit_grant_ledger_transaction_id")
        ),
    )
    with op.batch_alter_table("credit_grant", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_credit_grant_customer_id"), ["customer_id"], unique=False
        )

    op.create_table(
        "transfer",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("ledger_transaction_id", BIG, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("debit_account_id", BIG, nullable=False),
        sa.Column("credit_account_id", BIG, nullable=False),
        sa.Column("amount", BIG, nullable=False),
        sa.Column("debit_balance_after", BIG, nullable=True),
        sa.Column("debit_version", BIG, nullable=True),
        sa.Column("credit_balance_after", BIG, nullable=True),
        sa.Column("credit_version", BIG, nullable=True),
        sa.CheckConstraint(
            "amount > 0 AND amount < 4611686018427387904",
            name=op.f("ck_transfer_amount"),
        ),
        sa.CheckConstraint(
            "debit_account_id <> credit_account_id",
            name=op.f("ck_transfer_two_accounts"),
        ),
        sa.ForeignKeyConstraint(
            ["credit_account_id"],
            ["ledger_account.id"],
            name=op.f("fk_transfer_credit_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["debit_account_id"],
            ["ledger_account.id"],
            name=op.f("fk_transfer_debit_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["ledger_transaction_id"],
            ["ledger_transaction.id"],
            name=op.f("fk_transfer_ledger_transaction_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfer")),
        sa.UniqueConstraint(
            "ledger_transaction_id",
            "position",
            name=op.f("uq_transfer_ledger_transaction_id_position"),
        ),
    )
    with op.batch_alter_table("transfer", schema=None) as batch_op:
        batch_op.create_index(
            "uq_transfer_credit_version",
            ["credit_account_id", "credit_version"],
            unique=True,
            sqlite_where=sa.text("credit_version IS NOT NULL"),
            postgresql_where=sa.text("credit_version IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_transfer_debit_version",
            ["debit_account_id", "debit_version"],
            unique=True,
            sqlite_where=sa.text("debit_version IS NOT NULL"),
            postgresql_where=sa.text("debit_version IS NOT NULL"),
        )

    op.create_table(
        "usage_event",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("customer_id", BIG, nullable=False),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("quantity", BIG, nullable=False),
        sa.Column("credits", BIG, nullable=False),
        sa.Column("catalog_version", sa.String(), nullable=False),
        sa.Column("ledger_transaction_id", BIG, nullable=False),
        sa.Column("occurred_at_ms", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_usage_event_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["ledger_transaction_id"],
            ["ledger_transaction.id"],
            name=op.f("fk_usage_event_ledger_transaction_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_event")),
        sa.UniqueConstraint(
            "ledger_transaction_id", name=op.f("uq_usage_event_ledger_transaction_id")
        ),
    )
    with op.batch_alter_table("usage_event", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_usage_event_customer_id"), ["customer_id"], unique=False
        )

    op.create_table(
        "wallet",
        sa.Column("address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("customer_id", BIG, nullable=False),
        sa.Column("proven_at_ms", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_wallet_customer_id")
        ),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_wallet")),
    )
    with op.batch_alter_table("wallet", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_wallet_customer_id"), ["customer_id"], unique=False
        )

    op.create_table(
        "topup",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("claim_id", BIG, nullable=False),
        sa.Column("customer_id", BIG, nullable=False),
        sa.Column("chain_id", BIG, nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("payer", sa.LargeBinary(length=20), nullable=False),
        sa.Column("pay_to", sa.LargeBinary(length=20), nullable=False),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.Column("valid_after", BIG, nullable=False),
        sa.Column("valid_before", BIG, nullable=False),
        sa.Column("signature", sa.LargeBinary(length=8192), nullable=True),
        sa.Column("credits", BIG, nullable=False),
        sa.Column("bonus", BIG, nullable=False),
        sa.Column("catalog_version", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("in_flight", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("scan_from_block", BIG, nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("block_number", BIG, nullable=True),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("log_index", sa.Integer(), nullable=True),
        sa.Column("balance_after", BIG, nullable=True),
        sa.Column("created_at_ms", BIG, nullable=False),
        sa.Column("next_look_at_ms", BIG, nullable=False),
        sa.CheckConstraint(
            "state IN ('claimed', 'signed', 'watch', 'rejected', 'expired', 'canceled', 'credited', 'safe', 'final', 'reversed', 'quarantine')",
            name=op.f("ck_topup_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('credited', 'safe', 'final') OR (tx_hash IS NOT NULL AND block_hash IS NOT NULL)",
            name=op.f("ck_topup_credit_has_anchor"),
        ),
        sa.CheckConstraint("credits >= 0", name=op.f("ck_topup_credits")),
        sa.CheckConstraint("value > 0", name=op.f("ck_topup_value")),
        sa.ForeignKeyConstraint(
            ["claim_id"], ["claim.id"], name=op.f("fk_topup_claim_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_topup_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_topup")),
        sa.UniqueConstraint("claim_id", name=op.f("uq_topup_claim_id")),
    )
    with op.batch_alter_table("topup", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_topup_customer_id"), ["customer_id"], unique=False
        )
        batch_op.create_index(
            "ix_topup_open",
            ["next_look_at_ms"],
            unique=False,
            sqlite_where=sa.text("state IN ('claimed', 'signed', 'watch')"),
            postgresql_where=sa.text("state IN ('claimed', 'signed', 'watch')"),
        )
        batch_op.create_index(
            "ix_topup_rejected_valid_before",
            ["valid_before"],
            unique=False,
            sqlite_where=sa.text("state = 'rejected'"),
            postgresql_where=sa.text("state = 'rejected'"),
        )
        batch_op.create_index(
            "uq_topup_in_flight_wallet",
            ["chain_id", "payer"],
            unique=True,
            sqlite_where=sa.text("in_flight"),
            postgresql_where=sa.text("in_flight"),
        )

    op.create_table(
        "chain_transfer",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("chain_id", BIG, nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("block_number", BIG, nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("sender", sa.LargeBinary(length=20), nullable=False),
        sa.Column("pay_to", sa.LargeBinary(length=20), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=True),
        sa.Column("topup_id", BIG, nullable=True),
        sa.Column("seen_at_ms", BIG, nullable=False),
        sa.CheckConstraint("value > 0", name=op.f("ck_chain_transfer_value")),
        sa.ForeignKeyConstraint(
            ["topup_id"], ["topup.id"], name=op.f("fk_chain_transfer_topup_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_transfer")),
        sa.UniqueConstraint(
            "chain_id",
            "block_hash",
            "log_index",
            name=op.f("uq_chain_transfer_chain_id_block_hash_log_index"),
        ),
        sa.UniqueConstraint("topup_id", name=op.f("uq_chain_transfer_topup_id")),
    )
    with op.batch_alter_table("chain_transfer", schema=None) as batch_op:
        batch_op.create_index(
            "ix_chain_transfer_authorization",
            ["sender", "nonce"],
            unique=False,
            sqlite_where=sa.text("nonce IS NOT NULL"),
            postgresql_where=sa.text("nonce IS NOT NULL"),
        )

    op.create_table(
        "relayed_transaction",
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("topup_id", BIG, nullable=False),
        sa.Column("chain_id", BIG, nullable=False),
        sa.Column("relayer", sa.LargeBinary(length=20), nullable=False),
        sa.Column("evm_nonce", BIG, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(length=32768), nullable=False),
        sa.Column("signed_at_ms", BIG, nullable=False),
        sa.Column("sent_at_ms", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["topup_id"], ["topup.id"], name=op.f("fk_relayed_transaction_topup_id")
        ),
        sa.PrimaryKeyConstraint("tx_hash", name=op.f("pk_relayed_transaction")),
        sa.UniqueConstraint(
            "chain_id",
            "relayer",
            "evm_nonce",
            "attempt",
            name=op.f("uq_relayed_transaction_chain_id_relayer_evm_nonce_attempt"),
        ),
    )
    with op.batch_alter_table("relayed_transaction", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_relayed_transaction_topup_id"), ["topup_id"], unique=False
        )


def downgrade() -> None:
    with op.batch_alter_table("relayed_transaction", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_relayed_transaction_topup_id"))

    op.drop_table("relayed_transaction")
    with op.batch_alter_table("chain_transfer", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_chain_transfer_authorization",
            sqlite_where=sa.text("nonce IS NOT NULL"),
            postgresql_where=sa.text("nonce IS NOT NULL"),
        )

    op.drop_table("chain_transfer")
    with op.batch_alter_table("topup", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_topup_in_flight_wallet",
            sqlite_where=sa.text("in_flight"),
            postgresql_where=sa.text("in_flight"),
        )
        batch_op.drop_index(
            "ix_topup_rejected_valid_before",
            sqlite_where=sa.text("state = 'rejected'"),
            postgresql_where=sa.text("state = 'rejected'"),
        )
        batch_op.drop_index(
            "ix_topup_open",
            sqlite_where=sa.text("state IN ('claimed', 'signed', 'watch')"),
            postgresql_where=sa.text("state IN ('claimed', 'signed', 'watch')"),
        )
        batch_op.drop_index(batch_op.f("ix_topup_customer_id"))

    op.drop_table("topup")
    with op.batch_alter_table("wallet", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_wallet_customer_id"))

    op.drop_table("wallet")
    with op.batch_alter_table("usage_event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_event_customer_id"))

    op.drop_table("usage_event")
    with op.batch_alter_table("transfer", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_transfer_debit_version",
            sqlite_where=sa.text("debit_version IS NOT NULL"),
            postgresql_where=sa.text("debit_version IS NOT NULL"),
        )
        batch_op.drop_index(
            "uq_transfer_credit_version",
            sqlite_where=sa.text("credit_version IS NOT NULL"),
            postgresql_where=sa.text("credit_version IS NOT NULL"),
        )

    op.drop_table("transfer")
    with op.batch_alter_table("credit_grant", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_credit_grant_customer_id"))

    op.drop_table("credit_grant")
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_claim_unsettled_valid_before",
            sqlite_where=sa.text("state IN ('waived', 'claimed')"),
            postgresql_where=sa.text("state IN ('waived', 'claimed')"),
        )
        batch_op.drop_index(batch_op.f("ix_claim_customer_id"))

    op.drop_table("claim")
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_key_customer_id"))

    op.drop_table("api_key")
    op.drop_table("account_balance")
    with op.batch_alter_table("used_nonce", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_used_nonce_expires_at_ms"))

    op.drop_table("used_nonce")
    with op.batch_alter_table("stored_answer", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_stored_answer_expires_at_ms"))

    op.drop_table("stored_answer")
    op.drop_table("relayer")
    op.drop_table("ledger_transaction")
    op.drop_table("ledger_account")
    op.drop_table("installation")
    with op.batch_alter_table("hold", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_hold_open_expires_at",
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )
        batch_op.drop_index(
            "ix_hold_open_customer",
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )

    op.drop_table("hold")
    op.drop_table("customer")
    op.drop_table("chain_cursor")
