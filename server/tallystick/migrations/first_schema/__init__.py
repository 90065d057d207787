"""The tables of revision 0001, a module for each room; frozen with it.

``TABLES`` says what creates each table, none before one that it refers to.
"""

from tallystick.migrations.first_schema import (
    claims,
    customers,
    identity,
    installation,
    ledger,
    metering,
    payments,
    paywall,
)
from tallystick.migrations.first_schema import credits as credits_

TABLES = {
    **installation.TABLES,
    **ledger.TABLES,
    **credits_.TABLES,
    **customers.TABLES,
    **claims.TABLES,
    **identity.TABLES,
    **payments.TABLES,
    **metering.TABLES,
    **paywall.TABLES,
}
