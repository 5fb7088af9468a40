"""Search: a photo's garments, a whole photo or stored items in, ranked items out.

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
from engine.pixels.photos import PhotoError
from retrieval.embedders import GarmentEmbedder
from retrieval.features import FeatureSchema, normalized_weights, parse_weights
from retrieval.pictures import cut_box, photo_name
from retrieval.store import Filter, Hit, Item, Store

MOST_NAMED = 40  # words of a store, in an error

Kinds = Mapping[str, tuple[str, ...]]  # a query's category -> those of a store that are the same


@dataclass(slots=True)
class Query:
    """What is searched for.

    Attributes:
        title: how results call it.
        vector: f32[D].
        photo: the file it is on; None for a stored item.
        number: of the garment on its photo, from 1, as in infer.py's results.
        category: the detector's; None where nobody has said.
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
    """Photos -> queries, through the code that builds databases.

    Args:
        embedder: of the database's features.
        finder: finds the garments; None: photos are taken whole only.
    """

    def __init__(self, embedder: GarmentEmbedder, finder: GarmentFinder | None) -> None:
        self.embedder, self.finder = embedder, finder

    def garments(self, path: Path) -> list[Query]:
        """The garments on a photo, the surest first; none where the detector finds none.

        Raises:
            PhotoError: the photo cannot be read.
        """
        ((_, found, photo),) = self.finder.find([(path, path)])
        return self._queries(path, found, photo, self.finder.categories)

    def whole(self, path: Path) -> Query:
        """A photo that shows one product: a studio's background is left off.

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
            title = f"{path.name}#{i + 1} {category}"
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
    kinds: Kinds | None = None,
) -> list[list[Hit]]:
    """The most similar items for each query; a stored item never finds itself.

    Args:
        store: the database.
        queries: of the store's schema.
        k: how many items for each.
        weights: per aspect; None: all alike.
        filter: which items may be found.
        exclude_same_photo: leave out what is on the query's own photo, where that is in the store.
        kinds: which categories' items to find for a query of a category; None: of any.

    Raises:
        InputError: weights, k or filter that make no sense.
    """
    weights = equal_weights(store.schema) if weights is None else weights
    pairs = []
    for query in queries:
        own = filter or Filter()
        if kinds is not None and query.category:
            own = replace(own, categories=kinds[query.category])
        if exclude_same_photo:
            own = _without_its_photo(own, query, store)
        pairs.append((own, query))
    found = []
    for own, group in groupby(pairs, key=lambda pair: pair[0]):
        asking = [query for _, query in group]
        vectors = np.stack([query.vector for query in asking])
        # A filter without the item itself would give each stored item a pass of its own.
        spare = any(query.item for query in asking)
        hits = store.search(vectors, weights=weights, k=k + spare, filter=own)
        found += map(partial(_others, k=k), asking, hits)
    return found


def as_stored(store: Store, filter: Filter) -> Filter:
    """A filter whose words are spelled as the store's, capitals aside.

    Raises:
        InputError: a category, attribute, value or folder that no item has.
    """
    if filter.folder and not store.count(Filter(folder=filter.folder)):
        raise InputError(f"folder {filter.folder}: no item lies below it; keys begin with theirs")
    if not filter.categories and not filter.attributes:
        return filter
    categories, attributes = store.labels()
    wanted: dict[str, tuple[str, ...]] = {}
    for name, values in filter.attributes.items():
        # Items must have all that is asked for, so of one word's spellings a single one counts.
        stored = name if name in attributes else _spellings("attribute", [name], attributes)[0]
        spelled = _spellings(f"attribute {name}", values, attributes[stored])
        wanted[stored] = (*wanted.get(stored, ()), *spelled)  # color=red and Color=blue
    spelled = _spellings("category", filter.categories, categories)
    return replace(filter, categories=spelled, attributes=wanted)


def kinds_of(store: Store, categories: Sequence[str]) -> Kinds:
    """How a store spells each of the categories, capitals aside; itself where it has no such items.

    Raises:
        InputError: no item is of any of the categories, which one of its own kind is sought for.
    """
    stored = store.labels()[0]
    found = _alike(categories, stored)
    sentence = f"{store.name}: its items are {', '.join(stored) or 'of no category'}; "
    sentence += f"sought are {', '.join(categories)}; leave out --same-category"
    require(any(found.values()), sentence)
    return {text: tuple(words) or (text,) for text, words in found.items()}


def _alike(texts: Sequence[str], known: Iterable[str]) -> dict[str, list[str]]:
    return {text: [k for k in known if k.casefold() == text.casefold()] for text in texts}


def _spellings(what: str, texts: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    found = _alike(texts, known)
    for text, stored in found.items():
        if not stored:
            shown = ", ".join(sorted(known)[:MOST_NAMED])
            raise InputError(f"{what} {text}: no item has it; there are {shown or 'none'}")
    return tuple(dict.fromkeys(word for stored in found.values() for word in stored))


def _without_its_photo(filter: Filter, query: Query, store: Store) -> Filter:
    name = query.item.photo if query.item else photo_name(store, query.photo)
    if name is None:
        return filter
    return replace(filter, exclude_photos=(*filter.exclude_photos, name))


def _others(query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
    """The k best hits but the query itself."""
    own = query.item.key if query.item else None
    return [hit for hit in hits if hit.item.key != own][:k]


def weights_of(text: str | None, schema: FeatureSchema) -> dict[str, float]:
    """The weights that a flag gives, as ``parse_weights`` reads them; None: all aspects alike.

    Raises:
        InputError: they make no sense for these features.
    """
    weights = equal_weights(schema) if text is None else parse_weights(text)
    normalized_weights(weights, schema)
    return weights


def equal_weights(schema: FeatureSchema) -> dict[str, float]:
    """Every aspect counts the same."""
    return dict.fromkeys(schema.names, 1.0)
