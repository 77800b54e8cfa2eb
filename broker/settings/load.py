"""From the sources to checked settings: defaults < TOML file < environment < options; pure but for one file read."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from broker.settings.keys import BadValue, environment_name
from broker.settings.schema import ALIASES, SECTIONS, SETTINGS, Settings, Source

DEFAULT_FILE = "weir.toml"

# Read by the command line itself.
RESERVED_VARIABLES = ("WEIR_CONFIG", "WEIR_BOOTSTRAP")

# Kubernetes gives every container variables that describe a service; one that is named `weir` gives these.
_SERVICE_VARIABLE = re.compile(r"WEIR_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")

AWS_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "store.s3.access.key.id",
    "AWS_SECRET_ACCESS_KEY": "store.s3.secret.access.key",
    "AWS_SESSION_TOKEN": "store.s3.session.token",
    "AWS_DEFAULT_REGION": "store.s3.region",
    "AWS_REGION": "store.s3.region",
    "AWS_ENDPOINT_URL": "store.s3.endpoint",
    "AWS_ENDPOINT_URL_S3": "store.s3.endpoint",
}
"""The usual variables of AWS tools; a later one wins, and a `WEIR_...` variable wins over all of them."""


class SettingsError(ValueError):
    """The settings cannot be used; one line per problem, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Given(NamedTuple):
    """One raw value from one source, before it is checked."""

    name: str
    raw: object
    source: Source


def load(
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    extra: Mapping[str, object] | None = None,
) -> Settings:
    """The effective settings. `file` must exist if named; `options` are `key=value`; `extra` are dedicated options.

    Without `file`, `WEIR_CONFIG` names it, or `./weir.toml` is used if there is one. Raises SettingsError.
    """
    environ = environ or {}
    problems: list[str] = []
    path = file or environ.get("WEIR_CONFIG") or None
    given: list[Given] = []
    if path is None and Path(DEFAULT_FILE).is_file():
        path = DEFAULT_FILE
    if path is not None:
        given += _from_file(Path(path), problems)
    given += _from_environment(environ, problems)
    given += _from_options(options, problems)
    given += [Given(name, raw, Source("option", "")) for name, raw in (extra or {}).items()]
    return build(given, problems)


def settings_of(values: Mapping[str, object]) -> Settings:
    """Settings of a program: `{"num.partitions": 1}` over the defaults, nothing else is read. Raises SettingsError."""
    return build([Given(name, raw, Source("argument")) for name, raw in values.items()], [])


def build(given: Iterable[Given], problems: list[str]) -> Settings:
    """Check and merge; a later value of a setting wins. Raises SettingsError with every problem found."""
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for name, raw, source in given:
        canonical = ALIASES.get(name, name)
        setting = SETTINGS.get(canonical)
        if setting is None:
            problems.append(f"unknown setting {name!r} ({source}){_suggestion(name)}")
            continue
        try:
            values[canonical] = setting.parse(raw)
        except BadValue as error:
            shown = "a hidden value" if setting.key.secret else repr(raw)
            problems.append(f"{name}: expected {error}, got {shown} ({source})")
            continue
        sources[canonical] = source
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        setting = SETTINGS[name]
        sections[setting.section][setting.attribute] = value
    built: dict[str, Any] = {name: SECTIONS[name](**fields) for name, fields in sections.items()}
    settings = Settings(**built, sources=sources)
    problems += _contradictions(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def _suggestion(name: str) -> str:
    known = [*SETTINGS, *ALIASES]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else "; `weir config --docs` lists the known ones"


def _from_file(path: Path, problems: list[str]) -> list[Given]:
    try:
        with path.open("rb") as stream:
            tree = tomllib.load(stream)
    except OSError as error:
        problems.append(f"cannot read the settings file {path}: {error.strerror}")
        return []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path} is not valid TOML: {error}")
        return []
    source = Source("file", str(path))
    return [Given(name, raw, source) for name, raw in _flatten(tree, "")]


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, object]]:
    """`[log] retention.ms = 1`, `log.retention.ms = 1` and `"log.retention.ms" = 1` are the same setting."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> list[Given]:
    given = [
        Given(name, environ[variable], Source("environment", variable))
        for variable, name in AWS_VARIABLES.items()
        if environ.get(variable)
    ]
    variables = {environment_name(name): name for name in [*ALIASES, *SETTINGS]}
    for variable in sorted(environ):
        if not variable.startswith("WEIR_") or variable in RESERVED_VARIABLES:
            continue
        if variable in variables:
            given.append(Given(variables[variable], environ[variable], Source("environment", variable)))
        elif not _SERVICE_VARIABLE.fullmatch(variable):
            near = difflib.get_close_matches(variable, variables, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"unknown setting in the environment variable {variable}{hint}")
    return given


def _from_options(options: Sequence[str], problems: list[str]) -> list[Given]:
    given = []
    for option in options:
        name, equals, raw = option.partition("=")
        if equals:
            given.append(Given(name.strip(), raw.strip(), Source("option", "--set")))
        else:
            problems.append(f"--set {option}: expected key=value")
    return given


def _contradictions(settings: Settings) -> list[str]:
    """What no single value shows."""
    problems = []
    network, groups, wal = settings.network, settings.groups, settings.wal
    if not network.listeners:
        problems.append("listeners: expected at least one address")
    problems += [
        f"listeners: only PLAINTEXT is served, got {listener}"
        for listener in (*network.listeners, *network.advertised_listeners)
        if listener.name != "PLAINTEXT"
    ]
    if len(network.listeners) > 1 or len(network.advertised_listeners) > 1:
        problems.append("listeners: one PLAINTEXT address is served, got several")
    problems += [
        f"advertised.listeners: expected an address that clients can reach, got {listener}"
        for listener in network.advertised_listeners
        if listener.host in ("", "0.0.0.0", "::")
    ]
    if not network.advertised_listeners:
        problems += [
            f"listeners: clients cannot connect to {listener.host}; name an address that they reach in "
            "advertised.listeners, or listen on every interface with an empty host (PLAINTEXT://:9092)"
            for listener in network.listeners
            if listener.host in ("0.0.0.0", "::")
        ]
    if settings.log.message_max_bytes > network.request_max_bytes:
        problems.append("message.max.bytes is above socket.request.max.bytes: such a batch could never arrive")
    if groups.min_session_timeout_ms > groups.max_session_timeout_ms:
        problems.append("group.min.session.timeout.ms is above group.max.session.timeout.ms")
    if wal.capacity_bytes < 2 * wal.segment_size_bytes:
        problems.append("wal.capacity.bytes: expected at least two segments of wal.segment.bytes")
    return problems
