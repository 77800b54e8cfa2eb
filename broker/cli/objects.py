"""`weir objects`: what is in the object store, read from outside: no broker and no metadata are needed.

The store is the one of the settings (`store.url`, else `objects` in `data.dir`), or that of `--store`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.output import fail, print_json, print_records, print_table, say
from broker.cli.running import AsJson
from broker.cli.sources import ConfigFile, Set, settings_from
from s3stream.errors import Corrupt, StreamError
from s3stream.ports import ObjectInfo

if TYPE_CHECKING:
    from s3stream.inspect import ObjectSource

objects = typer.Typer(help="Objects in the store, without a broker.", no_args_is_help=True)

Store = Annotated[str | None, typer.Option("--store", help="Short for --set store.url=...")]
Prefix = Annotated[str, typer.Option("--prefix", help="Only keys that begin so.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Key of one data object.")]


@objects.command("list")
def list_all(
    config: ConfigFile = None,
    options: Set = None,
    store: Store = None,
    prefix: Prefix = "",
    as_json: AsJson = False,
) -> None:
    """List objects with class, size and age, as their keys tell it."""
    from s3stream.inspect import list_objects

    source = _source(config, options, store)
    now_ms = time.time_ns() // 1_000_000
    try:
        rows = [
            (
                each.info.key,
                each.object_class,
                each.object_id,
                each.info.size_bytes,
                max(now_ms - each.info.modified_ms, 0) / 1000,
            )
            for each in list_objects(source, prefix)
        ]
    except StreamError as error:
        raise fail(str(error)) from None
    print_records(("Key", "Class", "Id", "Bytes", "Age s"), rows, as_json=as_json)


@objects.command("totals")
def totals(
    config: ConfigFile = None,
    options: Set = None,
    store: Store = None,
    prefix: Prefix = "",
    as_json: AsJson = False,
) -> None:
    """Count objects and bytes by class."""
    from s3stream.inspect import list_objects, totals_by_class

    source = _source(config, options, store)
    try:
        found = totals_by_class(list_objects(source, prefix))
    except StreamError as error:
        raise fail(str(error)) from None
    rows = [(name, each.count, each.size_bytes, each.largest_bytes) for name, each in found.items()]
    print_records(("Class", "Objects", "Bytes", "Largest"), rows, as_json=as_json)


@objects.command("show")
def show(
    key: Key, config: ConfigFile = None, options: Set = None, store: Store = None, as_json: AsJson = False
) -> None:
    """Decode the footer and the index of one object."""
    from s3stream.inspect import decode_object

    source = _source(config, options, store)
    try:
        decoded = decode_object(source, _found(source, key))
    except StreamError as error:
        raise fail(str(error)) from None
    if as_json:
        footer, entries = decoded.footer._asdict(), [entry._asdict() for entry in decoded.entries]
        print_json({"key": key, "size_bytes": decoded.info.size_bytes, "footer": footer, "blocks": entries})
        return
    footer_text = " ".join(f"{name}={value}" for name, value in decoded.footer._asdict().items())
    say(f"{key}  {decoded.info.size_bytes} bytes  {decoded.records} records  {footer_text}")
    columns = ("Stream", "Base offset", "Offsets", "Records", "Position", "Bytes", "Max timestamp", "Flags")
    print_table(columns, decoded.entries)


@objects.command("verify")
def verify(
    config: ConfigFile = None,
    options: Set = None,
    store: Store = None,
    prefix: Prefix = "",
    as_json: AsJson = False,
) -> None:
    """Read every block of every data object and check it; exit code 1 if anything does not verify."""
    from s3stream.inspect import DATA, list_objects, verify_object

    source = _source(config, options, store)
    checked = 0
    problems: list[tuple[str, str]] = []
    try:
        for each in list_objects(source, prefix):
            if each.object_class != DATA:
                continue
            checked += 1
            try:
                problems += [(each.info.key, problem) for problem in verify_object(source, each.info).problems]
            except Corrupt as error:
                problems.append((each.info.key, str(error)))
    except StreamError as error:
        raise fail(str(error)) from None
    if as_json:
        print_json({"objects": checked, "problems": [{"key": key, "problem": text} for key, text in problems]})
    else:
        say(f"{checked} objects, {len(problems)} problems")
        if problems:
            print_table(("Key", "Problem"), problems)
    if problems:
        raise typer.Exit(1)


def _source(config: ConfigFile, options: Set, store: str | None) -> ObjectSource:
    from broker.adapters import store_settings, store_url
    from s3stream.inspect import open_source

    settings = settings_from(config, options, {} if store is None else {"store.url": store})
    try:
        return open_source(store_url(settings), store_settings(settings))
    except StreamError as error:
        raise fail(str(error)) from None


def _found(source: ObjectSource, key: str) -> ObjectInfo:
    for info in source.walk(key, ""):
        if info.key == key:
            return info
    raise fail(f"there is no object {key}")
