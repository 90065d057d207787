"""The catalog language: one class for each table of the file, one field for each key.

The docstring of a field is its help in editors (``docs/catalog.schema.json``), in
``docs/catalog.md`` and in the remedy of an error. What spans several keys is checked
in ``checks.py``, because only there a problem can name the line of the key at fault.

The language grows by new keys with a default and by tables where now a plain value
stands (``price``, ``success``), so a catalog that loads today loads tomorrow.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from tallystick.catalog.errors import UnknownFeature, UnknownPack
from tallystick.kernel import json
from tallystick.kernel.money import InvalidAmount, parse_decimal, to_decimal
from tallystick.kernel.seal import digest16

SCALE = 6
"""Decimals of every number in a catalog: those of credits and of USDC."""
DEFAULT_MAXIMUM_QUANTITY = Decimal(1_000_000)
LARGEST = 10**18 - 1
"""The largest integer that is an argument, and less than nothing the smallest."""
_VERSION_DIGITS = 12
_WORD = "[A-Za-z_][A-Za-z0-9_]*"


def _exact(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise PydanticCustomError("amount", "this is no number")
    if isinstance(value, Decimal) and abs(value.adjusted()) < 40:
        value = f"{value:f}"  # so that a message shows 0.0000001, not 1E-7
    try:
        return to_decimal(parse_decimal(value, SCALE))
    except InvalidAmount as error:
        raise PydanticCustomError("amount", "{why}", {"why": error.detail}) from error


def _whole(value: object) -> int:
    is_flag = isinstance(value, bool)
    if not is_flag and isinstance(value, int) and -LARGEST <= value <= LARGEST:
        return value
    raise PydanticCustomError("whole", "this is no whole number of at most 18 digits")


def _number_schema(**bound: int) -> WithJsonSchema:
    pattern = r"^[0-9]{1,13}(\.[0-9]{1,6})?$"
    return WithJsonSchema({"type": ["string", "number"], "pattern": pattern, **bound})


NotNegative = Annotated[
    Decimal, BeforeValidator(_exact), Field(ge=0), _number_schema(minimum=0)
]
Positive = Annotated[
    Decimal, BeforeValidator(_exact), Field(gt=0), _number_schema(exclusiveMinimum=0)
]
Whole = Annotated[
    int,
    BeforeValidator(_whole),
    WithJsonSchema({"type": "integer", "minimum": -LARGEST, "maximum": LARGEST}),
]
Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Name = Annotated[str, Field(min_length=1, max_length=80)]
# A feature's description travels in the PAYMENT-REQUIRED header: keep it short.
Text = Annotated[str, Field(max_length=500)]
Pattern = Annotated[str, Field(min_length=1, max_length=500)]
Handler = Annotated[str, Field(pattern=rf"^{_WORD}(\.{_WORD})*:{_WORD}$")]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Table(BaseModel):
    """What every table of the file has in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class About(Table):
    """What this catalog is."""

    slug: Slug
    """Lower-case letters, digits and underscores, beginning with a letter."""
    name: Name
    """The catalog's name for people, 1 to 80 characters."""
    description: Text = ""
    """One or two sentences about it, at most 500 characters."""
    currency: Literal["USD"] = "USD"
    """The currency of the prices; "USD" is the only one."""


class Credit(Table):
    """The unit that customers hold and features cost."""

    name: Name = "credit"
    """The word for one of it, 1 to 80 characters."""
    plural: Name = "credits"
    """The word for several of it, 1 to 80 characters."""
    price_usd: Positive
    """US dollars for one credit: above 0, at most six decimals."""
    low_balance: NotNegative = Decimal(5)
    """Credits: who has less is told that it is low; at most six decimals."""


class TopUp(Table):
    """How much a customer may buy at once, in US dollars."""

    auto_topup_usd: Positive = Decimal(1)
    """US dollars that a 402 answer asks for first; within minimum and maximum."""
    minimum_usd: Positive = Decimal("0.01")
    """The smallest top-up in US dollars: above 0, at most six decimals."""
    maximum_usd: Positive = Decimal(1000)
    """The largest top-up in US dollars: above 0, at most six decimals."""


class Parameter(Table):
    """One argument of a feature.

    What it does not allow is refused before anything is paid for the call.
    """

    type: Literal["string", "integer", "address", "list"]
    """One of "string", "integer", "address" (0x and 40 hex digits) and "list"."""
    required: StrictBool = True
    """true if a call must give it, false if it may be left out."""
    description: Text = ""
    """What the caller puts there, at most 500 characters."""
    items: Literal["string", "address"] = "string"
    """What a list holds: "string" or "address"."""
    unique: StrictBool = False
    """true if a list may hold each item once only."""
    pattern: Pattern | None = None
    """What all of a string, or of each string in a list, matches, 1 to 500 characters."""
    minimum: Whole | None = None
    """The smallest integer: a whole number of at most 18 digits."""
    maximum: Whole | None = None
    """The largest integer: a whole number of at most 18 digits."""


class Feature(Table):
    """Something that a call can buy."""

    slug: Slug
    """Lower-case letters, digits and underscores, beginning with a letter."""
    name: Name
    """The feature's name for people, 1 to 80 characters."""
    description: Text = ""
    """What the caller gets, at most 500 characters."""
    price: NotNegative
    """Credits for one unit: 0 (free) or more, at most six decimals."""
    unit: Name | None = None
    """The word for what is counted, such as "token"; without it, calls are."""
    quantity_from: str | None = None
    """The parameter that tells the quantity: a list's length, an integer's value."""
    minimum_quantity: Positive = Decimal(1)
    """The smallest quantity of one call: above 0, at most six decimals."""
    maximum_quantity: Positive = DEFAULT_MAXIMUM_QUANTITY
    """The largest quantity of one call: above 0, at most six decimals."""
    handler: Handler | None = None
    """The Python callable that does the work, as "module:function"."""
    methods: tuple[Method, ...] = Field(default=("GET", "POST"), min_length=1)
    """A list of the HTTP methods: "GET", "POST", "PUT", "PATCH", "DELETE"."""
    amount_override: StrictBool = False
    """true if the seller's own server may charge another amount than the price."""
    success: Literal["answered"] = "answered"
    """Which calls are charged; "answered" (no exception, HTTP below 400) so far."""
    parameters: Mapping[str, Parameter] = {}
    """The arguments, each as name = { type = …, required = …, description = … }."""

    @property
    def unit_name(self) -> str:
        return self.unit or "call"


class Pack(Table):
    """A fixed amount of credits for sale."""

    id: Slug
    """Lower-case letters, digits and underscores, beginning with a letter."""
    price_usd: Positive
    """US dollars for the pack; it holds what they buy, and the bonus on top."""
    bonus: NotNegative = Decimal(0)
    """Credits on top of what the price buys: 0 or more, at most six decimals."""
    badge: Name | None = None
    """A short mark beside the pack, such as "Most popular", 1 to 80 characters."""


class Catalog(Table):
    """Everything that is for sale, at what price. The money in it is exact."""

    about: About = Field(alias="catalog")
    """What this catalog is."""
    credit: Credit
    """The unit that customers hold and features cost."""
    topup: TopUp = TopUp()
    """How much a customer may buy at once."""
    features: tuple[Feature, ...] = Field(alias="feature", min_length=1)
    """What is for sale; write [[feature]], once for each."""
    packs: tuple[Pack, ...] = Field(alias="pack", default=())
    """Fixed amounts of credits; write [[pack]], once for each."""

    @cached_property
    def version(self) -> str:
        """12 hex digits that stand for the content.

        Comments, spacing, key order, ways to write a number and keys that only repeat
        a default do not change it. Nor does a release that adds keys, since those come
        with defaults: a quote outlives an upgrade.
        """
        content = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return digest16(json.dumps(_sorted(content))).hex()[:_VERSION_DIGITS]

    def feature(self, slug: str) -> Feature:
        """The feature of that slug; raises ``UnknownFeature``."""
        if slug not in self._features:
            raise UnknownFeature(slug, self._features)
        return self._features[slug]

    def pack(self, pack_id: str) -> Pack:
        """The pack of that id; raises ``UnknownPack``."""
        if pack_id not in self._packs:
            raise UnknownPack(pack_id, self._packs)
        return self._packs[pack_id]

    @cached_property
    def _features(self) -> dict[str, Feature]:
        return {feature.slug: feature for feature in self.features}

    @cached_property
    def _packs(self) -> dict[str, Pack]:
        return {pack.id: pack for pack in self.packs}


TABLES: Mapping[tuple[str, ...], type[Table]] = {
    (): Catalog,
    ("catalog",): About,
    ("credit",): Credit,
    ("topup",): TopUp,
    ("feature",): Feature,
    ("feature", "parameters", "*"): Parameter,
    ("pack",): Pack,
}
"""The table of each place in the file; ``*`` stands for any name."""


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
