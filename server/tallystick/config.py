"""Settings, from the environment (``TALLYSTICK_…``) or ``tallystick.toml``.

Only ``app`` and ``cli`` read them and hand the values down.
"""

import secrets
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

_URL = "sqlite+aiosqlite:///tallystick.sqlite3"


class Settings(BaseSettings):
    """What an operator can set; every name is documented in docs/settings.md."""

    model_config = SettingsConfigDict(
        env_prefix="TALLYSTICK_",
        toml_file="tallystick.toml",
        extra="forbid",
        frozen=True,
    )

    database_url: str = _URL
    """Where the books are kept; a SQLite file unless set."""
    network: str = "eip155:84532"
    """The chain in CAIP-2 form: Base is eip155:8453, Base Sepolia eip155:84532."""
    rpc_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """Nodes of that chain, comma-separated; the first that answers is used."""
    asset: str | None = None
    """The token's address; the network's USDC unless set."""
    pay_to: str | None = None
    """The address that receives payments."""
    relayer_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Private keys that pay the gas of settlements, comma-separated."""
    catalog: str = "x402_credits"
    """A catalog that ships with Tallystick, or the path of a TOML file."""
    public_url: str = "http://127.0.0.1:8402"
    """The server's address as clients know it."""
    secret_key: SecretStr | None = None
    """At least 32 characters; seals quotes, keys and sign-ins."""
    start_block: int = Field(default=0, ge=0)
    """The first block whose transfers belong to these books."""
    settle_wait: float = Field(default=25.0, ge=0, le=120)
    """Seconds that a paid request waits for its settlement."""
    poll_seconds: float = Field(default=0.5, gt=0, le=30)
    """Seconds between two looks at an open settlement."""
    offer_seconds: int = Field(default=90, ge=60, le=120)
    """Seconds that a client gets to sign an offer (maxTimeoutSeconds)."""
    hold_seconds: int = Field(default=60, ge=5, le=3600)
    """Seconds that a hold lives without a heartbeat."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8402, ge=0, le=65535)
    """The port to listen on."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_json: bool = True
    """One JSON object a line, or lines for people."""

    @field_validator("rpc_urls", "relayer_keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def new_secret_key() -> str:
    """A secret for ``SECRET_KEY``."""
    return secrets.token_urlsafe(48)
