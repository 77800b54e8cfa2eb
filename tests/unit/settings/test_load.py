"""Settings: precedence of the sources, the forms of values, and what is said when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.settings import SETTINGS, Listener, SettingsError, Source, load, settings_of
from broker.settings.load import AWS_VARIABLES
from broker.settings.schema import ALIASES, SECTIONS
from broker.settings.show import HIDDEN, documentation, effective


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `weir.toml` of the checkout is read."""
    monkeypatch.chdir(tmp_path)


def problems(**sources: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**sources)  # type: ignore[arg-type]
    return list(caught.value.problems)


def test_defaults_suit_telemetry() -> None:
    settings = load()
    assert settings.log.message_max_bytes >= 16 << 20
    assert settings.network.request_max_bytes == 100 << 20
    assert settings.topics.num_partitions == 4
    assert settings.log.retention_effective_ms == 7 * 86_400_000
    assert settings.source("num.partitions") == Source("default")


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        "num.partitions = 2\n[log]\nretention.ms = 2\n'group.max.size' = 2\n[group]\nmax.session.timeout.ms=9999"
    )
    environ = {"WEIR_LOG_RETENTION_MS": "3", "WEIR_GROUP_MAX_SIZE": "3"}
    with pytest.raises(SettingsError, match=r"log\.group\.max\.size"):
        load(file=file)
    file.write_text("num.partitions = 2\n'group.max.size' = 2\n[log]\nretention.ms = 2\n")
    settings = load(file=file, environ=environ, options=["group.max.size=4"])
    assert [settings.value(name) for name in ("num.partitions", "log.retention.ms", "group.max.size")] == [2, 3, 4]
    assert settings.source("num.partitions") == Source("file", str(file))
    assert settings.source("log.retention.ms") == Source("environment", "WEIR_LOG_RETENTION_MS")
    assert settings.source("group.max.size") == Source("option", "--set")


def test_nested_names_need_quotes_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "weir.toml").write_text("max.connections = 5\n'max.connections.per.ip' = 2\n")
    assert load().network.max_connections_per_ip == 2


def test_file_named_by_the_environment_or_found_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "weir.toml").write_text("num.partitions = 7")
    (tmp_path / "other.toml").write_text("num.partitions = 8")
    assert load().topics.num_partitions == 7
    assert load(environ={"WEIR_CONFIG": "other.toml"}).topics.num_partitions == 8
    assert load(file="other.toml", environ={"WEIR_CONFIG": "none.toml"}).topics.num_partitions == 8


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("upload.size.bytes=8MiB", 8 << 20),
        ("upload.size.bytes = 8388608", 8 << 20),
        ("wal.capacity.bytes=1 GiB", 1 << 30),
        ("auto.create.topics.enable=FALSE", False),
        ("log.retention.ms=", None),
        ("log.retention.ms=-1", -1),
        ("broker.id=7", 7),
        ("listeners=PLAINTEXT://:9092", (Listener("PLAINTEXT", "", 9092),)),
        ("listeners=PLAINTEXT://[::1]:0", (Listener("PLAINTEXT", "::1", 0),)),
        ("log.cleanup.policy=", ()),
        ("compression.type=zstd", "zstd"),
    ],
)
def test_values(option: str, value: object) -> None:
    name = option.partition("=")[0].strip()
    assert load(options=[option]).value(ALIASES.get(name, name)) == value


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("num.partition=1", "unknown setting 'num.partition' (option --set); did you mean 'num.partitions'?"),
        ("num.partitions=0", "num.partitions: expected an integer from 1 to 10000, got '0' (option --set)"),
        ("num.partitions=1.5", "num.partitions: expected an integer from 1 to 10000, got '1.5' (option --set)"),
        ("num.partitions=", "num.partitions: expected an integer from 1 to 10000, got '' (option --set)"),
        ("connections.max.idle.ms=5MiB", "connections.max.idle.ms: expected an integer of at least -1, got '5MiB'"),
        ("auto.create.topics.enable=yes", "auto.create.topics.enable: expected true or false, got 'yes'"),
        ("compression.type=brotli", "compression.type: expected one of uncompressed, zstd"),
        ("log.cleanup.policy=compact", "log.cleanup.policy: expected a comma-separated list of delete"),
        ("listeners=localhost:9092", "listeners: expected NAME://host:port"),
        ("listeners=PLAINTEXT://h:99999", "listeners: expected NAME://host:port with a port from 0 to 65535"),
        ("listeners=PLAINTEXT://::1:99", "an IPv6 address stands in brackets"),
        ("listeners=SSL://h:1", "only PLAINTEXT is served, got SSL://h:1"),
        ("listeners=", "at least one address"),
        ("listeners=PLAINTEXT://a:1,PLAINTEXT://b:1", "one PLAINTEXT address"),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:1", "an address that clients can reach"),
        ("listeners=PLAINTEXT://0.0.0.0:9092", "clients cannot connect to 0.0.0.0; name an address"),
        ("wal.capacity.bytes=100MiB", "at least two segments"),
        ("message.max.bytes=200000000", "above socket.request.max.bytes"),
        ("group.max.session.timeout.ms=10", "group.min.session.timeout.ms is above"),
        ("nonsense", "--set nonsense: expected key=value"),
        ("zzz.qqq=1", "`weir config --docs` lists the known ones"),
    ],
)
def test_problems(option: str, text: str) -> None:
    (problem,) = problems(options=[option])
    assert text in problem


def test_all_problems_at_once_and_secrets_unseen(tmp_path: Path) -> None:
    file = tmp_path / "weir.toml"
    file.write_text("num.partitions = 'many'\nstore.s3.secret.access.key = 12345\n")
    found = problems(environ={"WEIR_HTTP_PORTS": "1"}, options=["x"])
    assert len(found) == 4
    assert "environment variable WEIR_HTTP_PORTS; did you mean WEIR_HTTP_PORT?" in found[0] + found[1]
    assert not any("12345" in problem for problem in found)
    assert any(str(file.name) in problem and "'many'" in problem for problem in found)


def test_broken_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("a = = 1")
    (problem,) = problems(file="bad.toml")
    assert "bad.toml is not valid TOML" in problem
    (problem,) = problems(file="none.toml")
    assert "cannot read the settings file none.toml" in problem


def test_variables_of_a_kubernetes_service_named_weir_are_not_settings() -> None:
    environ = {
        "WEIR_SERVICE_HOST": "10.0.0.1",
        "WEIR_SERVICE_PORT": "9092",
        "WEIR_SERVICE_PORT_KAFKA": "9092",
        "WEIR_PORT": "tcp://10.0.0.1:9092",
        "WEIR_PORT_9092_TCP_ADDR": "10.0.0.1",
        "WEIR_HEADLESS_SERVICE_HOST": "10.0.0.1",
        "WEIR_HTTP_PORT": "1234",
    }
    assert load(environ=environ).http.port == 1234


def test_credentials_from_the_usual_variables() -> None:
    environ = dict.fromkeys(AWS_VARIABLES, "aws") | {"WEIR_STORE_S3_REGION": "own"}
    store = load(environ=environ).store
    assert (store.s3_access_key_id, store.s3_secret_access_key, store.s3_session_token) == ("aws", "aws", "aws")
    assert store.s3_region == "own"


def test_shown_settings_hide_secrets_and_name_their_source() -> None:
    settings = load(environ={"AWS_SECRET_ACCESS_KEY": "geheim"})
    shown = {each.name: each for each in effective(settings)}
    assert shown["store.s3.secret.access.key"].text == HIDDEN
    assert shown["store.s3.secret.access.key"].source == "environment AWS_SECRET_ACCESS_KEY"
    assert shown["listeners"].value == ["PLAINTEXT://127.0.0.1:9092"]
    assert "geheim" not in repr(shown)


def test_every_setting_is_declared_once_and_documented() -> None:
    names = list(SETTINGS)
    assert len(names) == sum(len(schema.__struct_fields__) for schema in SECTIONS.values())
    assert len({SETTINGS[name].environment_name for name in names}) == len(names)
    # In TOML a key cannot be a value and a table at once; Kafka's own names give one such pair.
    nested = [b for a in names for b in names if b.startswith(a + ".")]
    assert nested == ["max.connections.per.ip"]
    table = documentation()
    for setting in SETTINGS.values():
        assert f"| `{setting.name}`" in table
        assert setting.key.doc.endswith(".")
        if setting.default is not None:
            assert setting.parse(setting.text(setting.default)) == setting.default


def test_settings_of_values_for_programs() -> None:
    settings = settings_of({"num.partitions": 1, "listeners": ["PLAINTEXT://127.0.0.1:0"], "log.retention.hours": 1})
    assert settings.topics.num_partitions == 1
    assert settings.log.retention_effective_ms == 3_600_000
    assert settings.source("num.partitions") == Source("argument")
    assert settings_of({"log.retention.minutes": 2}).log.retention_effective_ms == 120_000
    assert settings_of({"log.retention.minutes": -1}).log.retention_effective_ms == -1
