"""Searches a database for garments similar to those in a photo, or to stored ones.

    python tools/search.py street.jpg --database DB                 # each garment on the photo
    python tools/search.py street.jpg --database DB --garment 2 --weights color=1,shape=0.5
    python tools/search.py product.jpg --database DB --whole-photo --contact-sheet found.png
    python tools/search.py 'shop/dress.jpg#1' --database DB --category skirt --attribute color=red
    python tools/search.py street.jpg --database http://localhost:19530#garments --json

The score of an item is the weighted mean of its cosine similarities to the query, -1..1, by item,
color, texture and shape; --weights sets the weights, and the output lists each similarity. A query
is a photo, or the key of a stored item as printed in results; if a file of that name exists, the
file is used.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import distributed, model_flags
from engine.command_line import Parser, positive
from engine.config import flag_of, require
from engine.errors import InputError, exits_cleanly
from engine.files import exists, require_other
from retrieval.embedders import embedder_for
from retrieval.pictures import ROOT
from retrieval.search import (
    Query,
    QueryReader,
    as_stored,
    find_similar,
    matching_categories,
    stored_queries,
    weights_from_flag,
)
from retrieval.store import Filter, Store, open_database
from tools.searching.contact_sheet import write_sheet
from tools.searching.results import print_results, to_plain


def search(arguments: argparse.Namespace) -> None:
    """Read the queries, search, show the results."""
    with open_database(arguments.database, read_only=True) as store:
        if arguments.root:  # the photos have moved
            store.about[ROOT] = str(arguments.root)
        # Weights and filter first, to report their errors before any photo is read.
        weights = weights_from_flag(arguments.weights, store.schema)
        filter = as_stored(store, filter_of(arguments))
        queries = read_queries(arguments, store)
        categories = list(dict.fromkeys(query.category for query in queries if query.category))
        category_spellings = None
        if arguments.same_category and categories:
            category_spellings = matching_categories(store, categories)
        found = find_similar(
            store,
            queries,
            k=arguments.top_k,
            weights=weights,
            filter=filter,
            exclude_same_photo=arguments.exclude_same_photo,
            category_spellings=category_spellings,
        )
        root = store.about.get(ROOT)
    results = list(zip(queries, found, strict=True))
    if arguments.json:
        print(json.dumps(to_plain(results, weights), indent=1))
    else:
        print_results(results, weights)
    if arguments.contact_sheet:
        write_sheet(arguments.contact_sheet, results, root)


def read_queries(arguments: argparse.Namespace, store: Store) -> list[Query]:
    """The stored items and the garments of the photos, in the order given."""
    is_photo = {text: exists(text) for text in arguments.queries}
    keys = [text for text in arguments.queries if not is_photo[text]]
    for key, item in zip(keys, store.get(keys), strict=True):
        require(item is not None, f"{key}: neither a photo nor an item of {arguments.database}")
    stored = {query.title: query for query in stored_queries(store, keys)} if keys else {}
    reader = build_reader(arguments, store) if any(is_photo.values()) else None
    queries: list[Query] = []
    for text in arguments.queries:
        if is_photo[text]:
            queries += queries_of_photo(reader, Path(text), arguments)
        else:
            queries.append(stored[text])
    return queries


def build_reader(arguments: argparse.Namespace, store: Store) -> QueryReader:
    """Load the models that turn photos into queries."""
    device = distributed.init(arguments.device)
    describer = model_flags.build_describer(arguments, device)
    embedder = embedder_for(store.schema, describer, store.name)
    finder = None
    if not arguments.whole_photo:
        finder = model_flags.build_finder(arguments, device)
    return QueryReader(embedder, finder)


def queries_of_photo(reader: QueryReader, path: Path, arguments: argparse.Namespace) -> list[Query]:
    """The garments of a photo that the flags select.

    Raises:
        InputError: the photo cannot be read, or has no such garment.
    """
    if arguments.whole_photo:
        return [reader.whole(path)]
    queries = reader.garments(path)
    if not queries:
        raise InputError(
            f"{path}: no garment found; lower --score-threshold, or use the whole photo with "
            "--whole-photo"
        )
    if arguments.garment is None:
        return queries
    number = arguments.garment
    require(number <= len(queries), f"{path}: --garment {number}, but it has {len(queries)}")
    return [queries[number - 1]]


def filter_of(arguments: argparse.Namespace) -> Filter:
    """The flags as a filter."""
    attributes: dict[str, tuple[str, ...]] = {}
    for text in arguments.attribute:
        name, equals, value = text.partition("=")
        require(bool(equals and name), f"--attribute {text}: write NAME=VALUE")
        attributes[name] = (*attributes.get(name, ()), value)
    return Filter(tuple(arguments.category), attributes, arguments.folder)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "queries", nargs="+", metavar="PHOTO|KEY", help="photos, or keys of stored items"
    )
    parser.add_argument(
        "--database",
        required=True,
        metavar="DB",
        help="folder, or a Milvus collection: http://host:19530#name",
    )
    parser.add_argument(
        "--weights", metavar="ASPECT=NUMBER,...",
        help="weights of the aspects, like color=1,shape=0.5; aspects left out weigh 0 (default: "
        "all weigh the same)",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", type=positive, default=10, metavar="N",
        help="items to find for each garment (default: 10)",
    )  # fmt: skip
    parser.add_argument(
        "--garment", type=positive, metavar="N",
        help="only the photo's garment N, as infer.py numbers them (default: each)",
    )  # fmt: skip
    parser.add_argument(
        "--whole-photo", action="store_true",
        help="the photo shows one product: use all of it, without the detector",
    )  # fmt: skip
    only = parser.add_argument_group("which items to return")
    only.add_argument(
        "--category", action="append", default=[], metavar="NAME",
        help="only items of this category; repeat the flag to allow several",
    )  # fmt: skip
    only.add_argument(
        "--same-category", action="store_true",
        help="only items of the query's category, as detected or stored",
    )  # fmt: skip
    only.add_argument(
        "--attribute", action="append", default=[], metavar="NAME=VALUE",
        help="only items with this attribute; repeat the flag for other attributes, or to allow "
        "several values of one",
    )  # fmt: skip
    only.add_argument(
        "--folder", metavar="F", help="only items on photos below this folder of the database"
    )
    only.add_argument(
        "--exclude-same-photo", action="store_true", help="no items on the query's own photo"
    )
    shown = parser.add_argument_group("output")
    shown.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shown.add_argument(
        "--contact-sheet", type=Path, metavar="FILE", help="draw queries and items as a picture"
    )
    shown.add_argument(
        "--root", type=Path, metavar="FOLDER",
        help="folder of the database's photos, if they have moved since it was built",
    )  # fmt: skip
    model_flags.add_multitask_flag(parser)
    model_flags.add_detector_flags(parser)
    model_flags.add_running_flags(parser)
    arguments = parser.parse_args(argv)
    if arguments.contact_sheet:
        require_other(arguments.contact_sheet, map(Path, arguments.queries), "--contact-sheet")
    require(
        not (arguments.same_category and arguments.category),
        "--same-category: not with --category",
    )
    for flag in ("same_category", "garment"):
        require(
            not (arguments.whole_photo and getattr(arguments, flag)),
            f"{flag_of(flag)}: not with --whole-photo, which uses no detector",
        )
    return arguments


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    search(parse_arguments(argv))


if __name__ == "__main__":
    main()
