"""The folder of a local database: what is in it, and its description.

DB/
    database.json    format, feature schema, layout; written last, so that it means "complete"
    items.sqlite     the item table (retrieval.item_table)
    segments/        the vectors (retrieval.segments)
    shards/          photos of a build that are not committed yet (retrieval.shards)
    lock             held by the one process that writes
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.files import exists, is_file, make_folder, replacing
from retrieval.features import FeatureSchema
from retrieval.segments import DTYPE, Layout

FORMAT = "weft-database"
VERSION = 1
DESCRIPTION = "database.json"
TABLE = "items.sqlite"
SEGMENTS = "segments"
SHARDS = "shards"
LOCK = "lock"

logger = logging.getLogger("weft")


def is_database(folder: Path) -> bool:
    """Whether the folder holds a complete database."""
    return is_file(folder / DESCRIPTION)


def prepare(folder: Path) -> None:
    """Create the folders of a new database.

    Raises:
        InputError: as ``require_free``, or they cannot be created.
    """
    require_free(folder)
    make_folder(folder)
    for name in (SEGMENTS, SHARDS):
        make_folder(folder / name)


def require_free(folder: Path) -> None:
    """Check that a new database can be created in a folder.

    Raises:
        InputError: it holds other files, or is not a folder.
    """
    # Leftovers of a killed creation are allowed; SQLite adds a suffix to the table's name.
    ours = (SEGMENTS, SHARDS, LOCK, TABLE, f".{DESCRIPTION}")
    try:
        held = sorted(path.name for path in folder.iterdir()) if exists(folder) else []
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot create {folder}: {reason}; choose another place") from error
    for name in held:
        if not name.startswith(ours):
            raise InputError(
                f"{folder}: holds {name} but no database; choose an empty or a new folder"
            )


def write_description(
    folder: Path, schema: FeatureSchema, layout: Layout, about: Mapping[str, Any]
) -> None:
    """Write ``database.json``, replacing it in one step."""
    description = {"format": FORMAT, "version": VERSION, "about": dict(about)}
    description |= {"schema": schema.to_plain(), "layout": asdict(layout)}
    with replacing(folder / DESCRIPTION, "w") as file:
        json.dump(description, file, indent=2)


def read_description(folder: Path) -> tuple[FeatureSchema, Layout, dict[str, Any]]:
    """A database's feature schema, layout and metadata (``Store.about``).

    Raises:
        InputError: not there, damaged, or written by a newer version.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{folder}: no database there; build one first") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; restore a copy") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{path}: not the description of a database")
    version, about = description.get("version"), description.get("about", {})
    if version != VERSION:
        raise InputError(f"{path}: format version {version}, this program knows {VERSION}")
    if not isinstance(about, dict):
        raise InputError(f"{path}: damaged metadata; restore a copy")
    schema = FeatureSchema.from_plain(description.get("schema"), str(path))
    return schema, _layout(description.get("layout"), schema, path), about


def _layout(plain: object, schema: FeatureSchema, path: Path) -> Layout:
    try:
        layout = Layout(**plain)
        sound = layout.dim == schema.dim and layout.dtype == DTYPE
        sound = sound and 0 < layout.block_rows <= layout.segment_rows
        if sound and layout.segment_rows % layout.block_rows == 0:
            return layout
    except TypeError:
        pass
    raise InputError(f"{path}: damaged layout; restore a copy")
