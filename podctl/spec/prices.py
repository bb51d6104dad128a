"""What models and pods cost: what people write (`Prices`), and what is pinned of it (`PriceLock`)."""

from __future__ import annotations

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from podctl.spec.base import Bytes, Dollars, Model

#: A model as agents name it.
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
#: A model as genai-prices lists it.
Listed = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[^\s/][^\s]*$")]
Discount = Annotated[float, Field(gt=-1, lt=1)]


class Price(Model):
    """Dollars for a million tokens. Reasoning costs what output costs; a kind of cache without a price, what input costs."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"cache_write_hour"})

    input: Dollars
    output: Dollars
    cache_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_hour: Dollars | None = Field(None, description="written to live an hour; default: what cache_write costs")


class LongPrice(Price):
    """For every token of a call whose whole input is longer than ``above`` tokens."""

    above: Annotated[int, Field(ge=1)]


class TieredPrice(Price):
    long: tuple[LongPrice, ...] = Field((), description="other prices of long calls, by ascending `above`")


class AgreedPrice(Model):
    """What one model costs you. Without ``price`` it is the list price less ``discount``."""

    listed: Listed | None = Field(None, description="PROVIDER/MODEL of genai-prices; default: found by the model's name")
    price: TieredPrice | None = Field(None, description="as negotiated")
    discount: Discount = Field(0.0, description="off the list price: 0.15 is 15 % less")
    batch: TieredPrice | None = Field(None, description="of batches, as negotiated; default: the list's, less the discount")
    until: date | None = Field(None, description="the last day of the agreement")
    note: str = Field("", description="where that is agreed")


class ComputeRates(Model):
    """What a pod costs in production: of each resource, what it requests or what it uses, whichever is more."""

    cpu_hour: Dollars = Field(description="dollars for a processor core and hour")
    gigabyte_hour: Dollars = Field(description="dollars for 2^30 bytes of memory and hour")
    cpu: Annotated[float, Field(ge=0, le=1024)] = Field(description="cores that a pod requests")
    memory: Bytes = Field(description="memory that a pod requests")


class Prices(Model):
    """What you pay. `podctl prices lock` joins it with list prices."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Prices"]
    models: dict[ModelName, AgreedPrice] = Field(default_factory=dict)
    compute: ComputeRates | None = None


class DataPin(Model):
    """The list prices' source, to the byte."""

    version: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockedPrice(Model):
    """A model's prices; what is agreed comes before what is listed.

    Without either, what batches of it cost is not known, and is not guessed.
    """

    listed: str = Field("", description="PROVIDER/MODEL of genai-prices")
    list_price: TieredPrice | None = None
    agreed_price: TieredPrice | None = None
    batch_list: TieredPrice | None = None
    batch_agreed: TieredPrice | None = None
    until: date | None = Field(None, description="the last day of the agreement")
    note: str = ""

    @property
    def paid(self) -> TieredPrice | None:
        return self.agreed_price or self.list_price

    @property
    def paid_in_batches(self) -> TieredPrice | None:
        return self.batch_agreed or self.batch_list


class PriceLock(Model):
    """Prices that stay as they are until somebody locks others."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["PriceLock"]
    day: date = Field(description="whose prices these are")
    genai_prices: DataPin
    models: dict[ModelName, LockedPrice]
    compute: ComputeRates | None = None
