"""Schemas of the API's requests and responses, with an example of each."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]
Text = Annotated[str, Field(max_length=1000)]
KEY = "shirts/1607.jpg#1"
HANDLE = "Zq0m2hS4b1tV0cJ3xw7yAA"
BOX = [41.5, 20.0, 172.25, 240.0]
ASPECTS = {"item": 0.81, "color": 0.94, "texture": 0.72, "shape": 0.88}


def example(**values: Any) -> ConfigDict:
    """A model's configuration: this example, and no further fields."""
    return ConfigDict(extra="forbid", json_schema_extra={"example": values})


class Problem(BaseModel):
    """Why a request was refused."""

    model_config = example(detail="More than 20 MiB were sent; send a smaller file")
    detail: str = Field(description="One sentence")


class Color(BaseModel):
    """One of the main colors of a garment."""

    name: str
    hex: str = Field(pattern="^#[0-9a-f]{6}$")
    share: float = Field(description="Of the garment's area", ge=0, le=1)


class Value(BaseModel):
    """A label's value and its probability."""

    value: str
    probability: float


class Garment(BaseModel):
    """A garment found in an uploaded photo."""

    handle: str = Field(description="Search with it until it expires")
    category: str | None = Field(description="None for a whole photo")
    score: float | None = Field(description="The detector's score, 0 to 1")
    box: list[float] = Field(description="x1, y1, x2, y2 in pixels of the upright photo")
    outline: list[list[list[float]]] = Field(
        description="Polygons of x, y in pixels; the garment is inside by the even-odd rule"
    )
    labels: dict[str, list[Value]] = Field(description="Label group -> values, likeliest first")
    colors: list[Color] = Field(description="Largest first")


class Detected(BaseModel):
    """What was found in an uploaded photo."""

    model_config = example(
        width=608, height=912, expires_in=1800, whole_photo=False,
        garments=[{
            "handle": HANDLE, "category": "dress", "score": 0.97, "box": BOX,
            "outline": [[[41.5, 20.0], [172.0, 24.5], [150.0, 240.0]]],
            "labels": {"pattern": [{"value": "striped", "probability": 0.86}]},
            "colors": [{"name": "navy", "hex": "#1d2a4d", "share": 0.62}],
        }],
    )  # fmt: skip
    width: int
    height: int
    expires_in: float = Field(description="Seconds until the handles expire")
    whole_photo: bool = Field(
        description="Whether no garment was recognized, and the only entry is the whole photo"
    )
    garments: list[Garment] = Field(description="Highest score first")


class SearchRequest(BaseModel):
    """A query: either ``handle`` or ``key``."""

    model_config = example(
        key=KEY, weights={"item": 1, "color": 0.5}, categories=["Shirts"],
        attributes={"gender": ["Men"]}, k=24,
    )  # fmt: skip
    handle: str | None = Field(None, max_length=100, description="Of a garment just uploaded")
    key: str | None = Field(None, max_length=4096, description="Of a stored garment")
    weights: dict[Text, Weight] = Field(
        {}, max_length=20, description="Per aspect; without any, all weigh the same"
    )
    categories: list[Text] = Field([], max_length=200, description="Only these; empty: all")
    attributes: dict[Name, Annotated[list[Text], Field(max_length=200)]] = Field(
        {}, max_length=50, description="Only garments with one of the given values of each"
    )
    k: int = Field(24, ge=1, le=200, description="Number of garments to find")

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if (self.handle is None) == (self.key is None):
            raise ValueError("give either a handle or a key")
        return self


class StoredItem(BaseModel):
    """A garment of the database."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "key": KEY, "photo": "shirts/1607.jpg", "garment": 1, "box": BOX, "category": "Shirts",
        "attributes": {"gender": "Men"}, "identity": None, "extra": {},
    }})  # fmt: skip
    key: str
    photo: str = Field(description="Path relative to the folder of the database's photos")
    garment: int
    box: list[float] | None = Field(description="x1, y1, x2, y2 in pixels of the photo")
    category: str | None
    attributes: dict[str, str]
    identity: str | None = Field(description="The product; garments of one product share it")
    extra: dict[str, Any]


class Found(BaseModel):
    """A garment found by a search, and its similarities."""

    item: StoredItem
    score: float = Field(description="Weighted mean of the aspects' similarities")
    aspects: dict[str, float] = Field(description="Similarity per aspect, at most 1")


class Results(BaseModel):
    """The found garments, best first."""

    model_config = ConfigDict(json_schema_extra={"example": {
        "hits": [{
            "item": StoredItem.model_config["json_schema_extra"]["example"],
            "score": 0.86, "aspects": ASPECTS,
        }],
        "milliseconds": 12.4,
    }})  # fmt: skip
    hits: list[Found]
    milliseconds: float = Field(description="Time that the search took")


class Uploads(BaseModel):
    """Which photos the server accepts; they are never written to disk."""

    possible: bool
    most_bytes: int
    most_pixels: int
    kept_seconds: float = Field(description="Time for which a photo's garments are kept")


class Stats(BaseModel):
    """Contents of the database and limits of the server."""

    model_config = example(
        items=5349, aspects=["item", "color", "texture", "shape"], photos=True,
        categories={"Shirts": 802}, attributes={"gender": {"Men": 2711, "Women": 2018}},
        examples=[KEY],
        uploads={"possible": True, "most_bytes": 20971520, "most_pixels": 50000000,
                 "kept_seconds": 1800},
    )  # fmt: skip
    items: int
    aspects: list[str]
    photos: bool = Field(description="Whether the server can show the stored photos")
    categories: dict[str, int] = Field(description="Number of garments per category")
    attributes: dict[str, dict[str, int]] = Field(description="Number of garments per value")
    examples: list[str] = Field(description="Keys of garments to start from")
    uploads: Uploads


class Health(BaseModel):
    """The server and its database respond."""

    model_config = example(status="ok", items=5349)
    status: str
    items: int


class Login(BaseModel):
    """The server's token, to be exchanged for a cookie."""

    model_config = example(token="the token the server was started with")
    token: str = Field(max_length=1000)
