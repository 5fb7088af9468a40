"""Search: queries made from a photo's garments, a whole photo or stored items; ranked results.

with open_database("DB", read_only=True) as store:
    reader = QueryReader(embedder_for(store.schema, describer, "DB"), finder)
    queries = reader.garments(Path("street.jpg"))
    hits = find_similar(store, queries, weights={"color": 1, "shape": 0.5}, k=10)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from engine.config import require
from engine.detection.detections import Detections
from engine.detection.finder import GarmentFinder, given_garments, whole_photo
from engine.errors import InputError
from engine.pixels.geometry import cut_box
from engine.pixels.photos import PhotoError
from retrieval.embedders import GarmentEmbedder
from retrieval.features import FeatureSchema, normalized_weights, parse_weights
from retrieval.pictures import photo_name
from retrieval.store import Filter, Hit, Item, Store

MOST_NAMED = 40  # of a store's labels, listed in an error message

# A query's category -> its spellings in a store, which may differ in upper and lower case.
CategorySpellings = Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class Query:
    """A garment to search for.

    Attributes:
        title: what it is called in results: its photo and number, or its key in the database.
        vector: f32[D] of the store's schema.
        photo: the file it is in; None for a stored item.
        number: of the garment in its photo, from 1, as in infer.py's results.
        category: the detector's or the stored one; None if unknown.
        box: xyxy in pixels of the photo; None for the whole photo.
        crop: u8[H,W,3] RGB of the box; None for a stored item.
        item: the stored item that is the query.
    """

    title: str
    vector: np.ndarray
    photo: Path | None = None
    number: int = 1
    category: str | None = None
    box: tuple[float, ...] | None = None
    crop: np.ndarray | None = None
    item: Item | None = None


class QueryReader:
    """Makes queries from photos, with the same code that builds databases.

    Args:
        embedder: of the database's features.
        finder: the detector; None if only ``whole`` will be used.
    """

    def __init__(self, embedder: GarmentEmbedder, finder: GarmentFinder | None) -> None:
        self.embedder, self.finder = embedder, finder

    def garments(self, path: Path) -> list[Query]:
        """The garments detected in a photo, best score first; may be empty.

        Raises:
            PhotoError: the photo cannot be read.
        """
        ((_, found, photo),) = self.finder.find([(path, path)])
        return self._queries(path, found, photo, self.finder.categories)

    def whole(self, path: Path) -> Query:
        """The whole photo as one query, for product shots; a studio background is masked out.

        Raises:
            PhotoError: the photo cannot be read.
        """
        results = given_garments([(path, path)], whole_photo, self.embedder.cut, 1)
        ((_, found, photo),) = results
        (query,) = self._queries(path, found, photo, [])
        return replace(query, title=path.name, box=None)

    def _queries(
        self,
        path: Path,
        found: Detections | PhotoError,
        photo: np.ndarray | None,
        categories: Sequence[str],
    ) -> list[Query]:
        if isinstance(found, PhotoError):
            raise found
        found, _, vectors = self.embedder.describe(photo, found, categories)
        queries = []
        for i, vector in enumerate(vectors):
            category = categories[found.labels[i] - 1] if categories else None
            crop = cut_box(photo, found.boxes[i], (found.width, found.height))
            box = tuple(found.boxes[i].tolist())
            title = f"{path.name}#{i + 1}"
            queries.append(Query(title, vector, path, i + 1, category, box, crop))
        return queries


def stored_queries(store: Store, keys: Sequence[str]) -> list[Query]:
    """Items of the database as queries.

    Raises:
        InputError: naming the first unknown key.
    """
    vectors, items = store.vectors(keys), store.get(keys)
    return [
        Query(item.key, vector, number=item.garment, category=item.category, item=item)
        for vector, item in zip(vectors, items, strict=True)
    ]


def find_similar(
    store: Store,
    queries: Sequence[Query],
    *,
    k: int,
    weights: Mapping[str, float] | None = None,
    filter: Filter | None = None,
    exclude_same_photo: bool = False,
    category_spellings: CategorySpellings | None = None,
) -> list[list[Hit]]:
    """The most similar items for each query; a stored item never finds itself.

    Args:
        store: the database.
        queries: of the store's schema.
        k: how many items for each.
        weights: per aspect; None: all equal.
        filter: which items may be returned.
        exclude_same_photo: exclude items of the query's own photo, if it is in the store.
        category_spellings: restrict hits to the query's category in these spellings (from
            ``matching_categories``); None: any category.

    Raises:
        InputError: invalid weights, k or filter.
    """
    weights = equal_weights(store.schema) if weights is None else weights
    pairs = []
    for query in queries:
        own_filter = filter or Filter()
        if category_spellings is not None and query.category:
            own_filter = replace(own_filter, categories=category_spellings[query.category])
        if exclude_same_photo:
            own_filter = _without_its_photo(own_filter, query, store)
        pairs.append((own_filter, query))
    found = []
    for own_filter, group in groupby(pairs, key=lambda pair: pair[0]):
        same_filter = [query for _, query in group]
        vectors = np.stack([query.vector for query in same_filter])
        # Fetch one more and drop the item itself below: excluding it by the filter would make
        # every stored item a separate search.
        spare = any(query.item for query in same_filter)
        hits = store.search(vectors, weights=weights, k=k + spare, filter=own_filter)
        found += map(partial(_without_itself, k=k), same_filter, hits)
    return found


def as_stored(store: Store, filter: Filter) -> Filter:
    """The filter with its labels spelled as in the store; matching ignores case.

    Raises:
        InputError: a category, attribute, value or folder that no item has.
    """
    if filter.folder and not store.count(Filter(folder=filter.folder)):
        raise InputError(
            f"folder {filter.folder}: holds no item; give a folder that items' keys begin with"
        )
    if not filter.categories and not filter.attributes:
        return filter
    categories, attributes = store.labels()
    wanted: dict[str, tuple[str, ...]] = {}
    for name, values in filter.attributes.items():
        # A filter combines attributes by "and", so only one spelling of a name can be used.
        stored = name if name in attributes else _spellings("attribute", [name], attributes)[0]
        spelled = _spellings(f"attribute {name}", values, attributes[stored])
        wanted[stored] = (*wanted.get(stored, ()), *spelled)  # color=red and Color=blue
    spelled = _spellings("category", filter.categories, categories)
    return replace(filter, categories=spelled, attributes=wanted)


def matching_categories(store: Store, categories: Sequence[str]) -> CategorySpellings:
    """Map each category to its spellings in the store, ignoring case; to itself if it has none.

    Raises:
        InputError: the store has items of none of the categories.
    """
    stored = store.labels()[0]
    found = _same_ignoring_case(categories, stored)
    sentence = f"{store.name}: its items are {', '.join(stored) or 'of no category'}, "
    sentence += f"none is {' or '.join(categories)}; leave out --same-category"
    require(any(found.values()), sentence)
    return {text: tuple(words) or (text,) for text, words in found.items()}


def _same_ignoring_case(texts: Sequence[str], known: Iterable[str]) -> dict[str, list[str]]:
    return {text: [k for k in known if k.casefold() == text.casefold()] for text in texts}


def _spellings(what: str, texts: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    found = _same_ignoring_case(texts, known)
    for text, stored in found.items():
        if not stored:
            shown = ", ".join(sorted(known)[:MOST_NAMED])
            raise InputError(f"{what} {text}: no item has it; there are {shown or 'none'}")
    return tuple(word for stored in found.values() for word in stored)


def _without_its_photo(filter: Filter, query: Query, store: Store) -> Filter:
    """The filter, also excluding the query's own photo if it is in the store."""
    name = query.item.photo if query.item else photo_name(store, query.photo)
    if name is None:
        return filter
    return replace(filter, exclude_photos=(*filter.exclude_photos, name))


def _without_itself(query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
    """The k best hits except the query itself."""
    own = query.item.key if query.item else None
    return [hit for hit in hits if hit.item.key != own][:k]


def weights_from_flag(text: str | None, schema: FeatureSchema) -> dict[str, float]:
    """The aspect weights of a flag like "color=1,shape=0.5"; None: all aspects equal.

    Raises:
        InputError: malformed, or invalid for these features.
    """
    weights = equal_weights(schema) if text is None else parse_weights(text)
    normalized_weights(weights, schema)
    return weights


def equal_weights(schema: FeatureSchema) -> dict[str, float]:
    """Every aspect counts the same."""
    return dict.fromkeys(schema.names, 1.0)
