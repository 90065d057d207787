"""The baseline on PostgreSQL: pgbench sends what a charge writes, one by one.

The very statement that writes a group, for a group of one, with all that it writes.
"""

import re

from bench.books import FEATURE, usage_of
from bench.population import Population
from tallystick.credits.plain_holds import HOLDS
from tallystick.ledger.plain import Beside, PlainCharge
from tallystick.ledger.plain_postgresql import writing
from tallystick.metering.plain import EVENTS, event_row
from tallystick.paywall.answers import ANSWERS, AnswerKey, charged_row

_DAY_MS = 24 * 3600 * 1000
_OF_A_RUN = 10**11
# Values that stand for what is another one each time, and no other value is.
_ID, _CUSTOMER, _KEY = -1, -2, b"key"
_EACH = {
    _ID: "CAST(:id AS bigint)",
    _CUSTOMER: "CAST(:customer AS bigint)",
    _KEY: "uuid_send(gen_random_uuid())",
}


def script(population: Population, now_ms: int, run: int) -> str:
    """A charge of any customer, as pgbench runs it; each run has ids of its own."""
    usage = usage_of(_CUSTOMER)
    charge = PlainCharge(_ID, _CUSTOMER, usage.price, FEATURE, usage.memo)
    key = AnswerKey(_KEY, bytes(16), _CUSTOMER, now_ms + _DAY_MS)
    beside = [
        Beside(EVENTS, [event_row(charge, usage, now=now_ms)]),
        Beside(HOLDS, [None]),
        Beside(ANSWERS, [charged_row(key, _ID)]),
    ]
    sql, (now, *arrays) = writing([charge], beside, now_ms)
    values = [str(now), *(_array(one) for one in arrays)]
    sql = re.sub(r"\$([0-9]+)", lambda found: values[int(found[1]) - 1], sql)
    ids = population.customer_ids
    return "\n".join(
        [
            # Ids rise, and no two clients have the same.
            "\\set n :n + 1",
            f"\\set id {ids.stop + run * _OF_A_RUN} + :n * 1000 + :client_id",
            f"\\set number random(0, {len(ids) - 1})",
            f"\\set customer {ids.start} + {ids.step} * :number",
            " ".join(sql.split()) + ";\n",
        ]
    )


def _array(one: object) -> str:
    assert isinstance(one, tuple)
    return f"ARRAY[{', '.join(map(_literal, one))}]"


def _literal(value: object) -> str:
    if value in _EACH:
        return _EACH[value]
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"decode('{value.hex()}', 'hex')"
    # What follows a colon would be a variable of pgbench's.
    text = str(value).replace(":", "' || chr(58) || '")
    return f"'{text}'" if isinstance(value, str) else text
