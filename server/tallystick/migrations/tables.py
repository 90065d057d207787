"""Every table of the system in one place, so that none is forgotten."""

from sqlmodel import SQLModel

from tallystick.claims import models as _claims
from tallystick.credits import models as _credits
from tallystick.customers import models as _customers
from tallystick.identity import models as _identity
from tallystick.kernel import installation as _installation
from tallystick.ledger import audit_rounds as _audits
from tallystick.ledger import models as _ledger
from tallystick.metering import models as _metering
from tallystick.operators import models as _operators
from tallystick.payments.models import chain as _chain
from tallystick.payments.models import gas as _gas
from tallystick.payments.models import merchants as _merchants
from tallystick.payments.models import paybacks as _paybacks
from tallystick.payments.models import topups as _payments
from tallystick.paywall import models as _paywall

ROOMS = (
    _installation,
    _ledger,
    _audits,
    _credits,
    _customers,
    _claims,
    _identity,
    _operators,
    _gas,
    _merchants,
    _payments,
    _chain,
    _paybacks,
    _metering,
    _paywall,
)
metadata = SQLModel.metadata
