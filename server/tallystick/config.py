"""Settings, from the environment (``TALLYSTICK_…``) or ``tallystick.toml``.

Only ``app`` and ``cli`` read them and hand the values down.
"""

import os
import secrets
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tallystick.kernel.redaction import redact_text

_URL = "sqlite+aiosqlite:///tallystick.sqlite3"
_FILE = "tallystick.toml"
_PREFIX = "tallystick_"
# What others of our programs read: the local chain, the tests, a seller's own server.
_OTHER_VARIABLES = {
    "tallystick_anvil",
    "tallystick_contracts",
    "tallystick_crash_at",
    "tallystick_service_key",
    "tallystick_test_workers",
    "tallystick_url",
}
# What listens everywhere is not reached under that name.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # not bound here


class UnreadableSettings(Exception):
    """What was set cannot be read. Each line names a setting and the remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """What an operator can set; every name is documented in docs/settings.md."""

    model_config = SettingsConfigDict(
        env_prefix="TALLYSTICK_",
        toml_file=_FILE,
        extra="forbid",
        frozen=True,
    )

    database_url: str = _URL
    """Where the books are kept; a SQLite file unless set."""
    network: str = "eip155:84532"
    """The chain in CAIP-2 form: Base is eip155:8453, Base Sepolia eip155:84532."""
    rpc_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """Nodes of that chain, comma-separated; the first that answers is used."""
    witness_rpc_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """Nodes of another provider, comma-separated, which confirm large payments."""
    witness_above: int = Field(default=100, ge=0, le=10**9)
    """Dollars from which on a payment is credited only if these nodes show it, too."""
    asset: str | None = None
    """The token's address; the network's USDC unless set."""
    pay_to: str | None = None
    """The address that receives payments."""
    relayer_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Private keys that pay the gas of settlements, comma-separated."""
    wallet_factories: Annotated[tuple[str, ...], NoDecode] = ()
    """Who may deploy wallets with their first payment: address:selector, comma-separated."""
    deployer_key: SecretStr | None = None
    """A private key that pays the gas of such payments, and has no other power."""
    permit2: bool = False
    """Whether payments by Permit2 are offered, after those that need no approval."""
    facilitator_url: str | None = None
    """A facilitator that settles instead of relayers; https unless on this machine."""
    facilitator_fallback: bool = False
    """Whether a relayer settles what the facilitator does not within eight seconds."""
    facilitator_cdp_key_id: str | None = None
    """The id of an API key, if the facilitator is Coinbase's."""
    facilitator_cdp_key_secret: SecretStr | None = None
    """The secret of that key."""
    act_as_facilitator: bool = False
    """Whether other sellers, by `tallystick merchant add`, have payments settled here."""
    run_workers: bool = True
    """Whether this process settles and observes; else ``tallystick worker`` does."""
    take_payments: bool = True
    """Whether payments are offered and taken; without, only credits are spent."""
    catalog: str = "x402_credits"
    """A catalog that ships with Tallystick, or the path of a TOML file."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8402, ge=0, le=65535)
    """The port to listen on."""
    public_url: str = Field(default="", validate_default=True)
    """The server's address as clients know it; that of host and port unless set."""
    secret_key: SecretStr | None = None
    """At least 32 characters; seals quotes, keys and sign-ins."""
    start_block: int | None = Field(default=None, ge=0)
    """The first block of new books; the one after the final block unless set."""
    settle_wait: float = Field(default=25.0, ge=0, le=120)
    """Seconds that a paid request waits for its settlement."""
    poll_seconds: float = Field(default=0.5, gt=0, le=30)
    """Seconds between two looks at an open settlement."""
    offer_seconds: int = Field(default=90, ge=60, le=120)
    """Seconds that a client gets to sign an offer (maxTimeoutSeconds)."""
    require_payment_identifier: bool = False
    """Whether every payment must have a name of its payer's (payment-identifier)."""
    declare_bazaar: bool = False
    """Whether a 402 tells catalogs of x402 routes how the route is called (bazaar)."""
    exposure_per_customer: int = Field(default=100, ge=0, le=10**9)
    """Dollars that a customer may spend before their block is safe."""
    exposure_floor: int = Field(default=1_000, ge=0, le=10**9)
    """Dollars that all together may spend before their blocks are safe, at least."""
    exposure_percent: int = Field(default=20, ge=0, le=100)
    """What they may spend in percent of what became final within the last day."""
    gas_per_day: Decimal = Field(default=Decimal("0.05"), ge=0, le=4)
    """Ether that each relayer may spend on gas in a day (UTC)."""
    gas_per_payer: Decimal = Field(default=Decimal("0.002"), ge=0, le=4)
    """Ether that may be spent in a day on one payer's payments that came to nothing."""
    gas_per_merchant: Decimal = Field(default=Decimal("0.005"), ge=0, le=4)
    """Ether that may be spent in a day on the settlements of one merchant."""
    gas_percent: int = Field(default=5, ge=0, le=100)
    """What settling a payment may cost at most, in percent of its value."""
    gas_floor: Decimal = Field(default=Decimal("0.06"), ge=0, le=10)
    """Dollars that it may cost whatever its value is."""
    ether_dollars: int = Field(default=5_000, ge=1, le=10**6)
    """Dollars that an ether may cost at most; gas is compared with values by it."""
    payback_key: SecretStr | None = None
    """Private key of the float: a little USDC to pay unused credits back from."""
    payback_most: int = Field(default=50, ge=0, le=10**6)
    """Dollars that the float pays back at a time, at most."""
    payback_per_day: int = Field(default=200, ge=0, le=10**6)
    """Dollars that the float pays back in a day (UTC), at most."""
    payback_approval_above: int = Field(default=50, ge=0, le=10**9)
    """Dollars above which a second operator must approve a payback."""
    hold_seconds: int = Field(default=60, ge=5, le=3600)
    """Seconds that a hold lives without a heartbeat."""
    dust_below: Decimal = Field(default=Decimal("0.01"), ge=0, le=Decimal("0.10"))
    """Dollars that a plain transfer must bring for a row of its own in the books."""
    metrics_token: SecretStr | None = None
    """Bearer token for /metrics and the figures of /healthz/chain."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_json: bool = True
    """One JSON object a line, or lines for people."""

    @field_validator(
        "rpc_urls",
        "witness_rpc_urls",
        "relayer_keys",
        "wallet_factories",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("public_url")
    @classmethod
    def _where_we_listen(cls, value: str, info: ValidationInfo) -> str:
        host, port = info.data.get("host", ""), info.data.get("port")
        host = _EVERYWHERE.get(host, host)
        ours = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return value.rstrip("/") or ours

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # its signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        file = TomlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, file, _Misspelt(settings_cls)


class _Misspelt(PydanticBaseSettingsSource):
    """Variables of ours that set nothing; they are forbidden as in the file.

    A payee or a relayer that was misspelt would be missed only when money is.
    """

    def get_field_value(self, field: FieldInfo, name: str) -> tuple[Any, str, bool]:
        """Nothing for any field that there is."""
        return None, name, False

    def __call__(self) -> dict[str, Any]:
        names = {name.lower() for name in os.environ} - _OTHER_VARIABLES
        ours = {
            name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)
        }
        # Without the value: it may be a secret, and a ValidationError shows it.
        return dict.fromkeys(ours - set(Settings.model_fields), "")


def read_settings() -> Settings:
    """The settings of the environment and of ``tallystick.toml``.

    Raises ``UnreadableSettings``, which repeats no value: it may be a secret.
    """
    try:
        if Path(_FILE).exists() and not Path(_FILE).is_file():
            raise UnreadableSettings([f"{_FILE} is no file: remove or rename it."])
        return Settings()
    except ValidationError as error:
        faults = {str(one["loc"][0]): one for one in error.errors(include_input=False)}
        raise UnreadableSettings([_problem(*item) for item in faults.items()]) from None
    except TOMLDecodeError as error:
        raise UnreadableSettings([f"{_FILE} is no TOML: {error}."]) from None
    except UnicodeDecodeError:
        raise UnreadableSettings([f"{_FILE} is no text: save it as UTF-8."]) from None
    except OSError as error:
        problem = f"{_FILE} cannot be read ({error.strerror}): let this user read it."
        raise UnreadableSettings([problem]) from None


def _problem(name: str, fault: Any) -> str:
    if name not in Settings.model_fields:
        close = get_close_matches(name.lower(), Settings.model_fields, 1)
        variable = f"{_PREFIX}{name}".upper()
        if variable in {one.upper() for one in os.environ}:
            similar = f"{_PREFIX}{close[0]}".upper() if close else ""
            meant = f"did you mean {similar}?" if similar else "unset it."
            return f"there is no setting {variable}: {meant}"
        meant = f"did you mean {close[0]}?" if close else "remove it."
        return f"{_FILE}: there is no setting {redact_text(name)}: {meant}"
    words = fault["msg"].removeprefix("Input ")
    return (
        f"TALLYSTICK_{name.upper()} {words}: change it in the environment or in {_FILE},"
        " or remove it for its default."
    )


def new_secret_key() -> str:
    """A secret for ``SECRET_KEY``."""
    return secrets.token_urlsafe(48)
