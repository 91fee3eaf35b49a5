from pathlib import Path

import pytest

from server.settings import Settings, SettingsError, load

NO_ADDRESS = "not an address of SQLite or PostgreSQL, such as postgresql://host/name"
FAULTY = [
    ("PORT", "eighty", "PORT: Input should be a valid integer, unable to parse string as an integer"),
    ("HTTP_PORT", "70000", "HTTP_PORT: Input should be less than or equal to 65535"),
    ("LOG_LEVEL", "loud", "LOG_LEVEL: Input should be 'debug', 'info', 'warn', 'warning' or 'error'"),
    ("DATABASE_URL", "mysql://me:hunter2@host/name", f"DATABASE_URL: {NO_ADDRESS}"),
    ("DB_DSN", "hunter2", f"DB_DSN: {NO_ADDRESS}"),
    ("GUESTS", "perhaps", "GUESTS: Input should be a valid boolean, unable to interpret input"),
    ("OPENAI_BASE_URL", "localhost:1", "OPENAI_BASE_URL: String should match pattern '^https?://[^/]'"),
    ("DEMO_PACE", "nan", "DEMO_PACE: Input should be less than or equal to 10"),
]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without our variables, in an empty folder."""
    for field in Settings.model_fields.values():
        for name in getattr(field.validation_alias, "choices", []):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("LOQUENT_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "loquent.yaml") -> None:
    Path(name).write_text(text, encoding="utf-8")


def test_nothing_set_gives_the_documented_defaults() -> None:
    settings, warnings = load()
    assert (settings.host, settings.port, settings.database_address) == ("127.0.0.1", 8000, "sqlite:///data/loquent.db")
    assert (settings.guests, settings.auto_reply, settings.auto_migrate) == (True, True, True)
    assert warnings == []


def test_environment_goes_before_the_file_and_the_file_before_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    write("port: 1\nHTTP_PORT: 1\nhost: 0.0.0.0\nguests: off\nauto_reply: false\n")
    monkeypatch.setenv("HTTP_PORT", "2")
    monkeypatch.setenv("GUESTS", "on")
    settings, _ = load(auto_reply=True)
    assert (settings.port, settings.host, settings.guests, settings.auto_reply) == (2, "0.0.0.0", True, True)


def test_the_first_name_of_a_setting_goes_before_its_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "1")
    monkeypatch.setenv("PORT", "2")
    assert load()[0].port == 2


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    write("port: 7\n")
    monkeypatch.setenv("PORT", "")
    assert load()[0].port == 7


def test_the_documents_database_address_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_DSN", "postgres://me:word@localhost:5432/llm?sslmode=disable")
    assert load()[0].database_address == "postgres://me:word@localhost:5432/llm?sslmode=disable"


def test_origins_are_separated_by_commas_or_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    write("cors_origins: [https://a.example]\n")
    assert load()[0].cors_origins == ("https://a.example",)
    monkeypatch.setenv("CORS_ORIGINS", "https://b.example, https://c.example,")
    assert load()[0].cors_origins == ("https://b.example", "https://c.example")


@pytest.mark.parametrize(("name", "value", "line"), FAULTY, ids=[row[0] for row in FAULTY])
def test_a_fault_is_one_line_that_names_the_variable_and_shows_no_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == line


def test_each_fault_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "-1")
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value).splitlines() == [
        "PORT: Input should be greater than or equal to 0",
        "LOG_FORMAT: Input should be 'json' or 'text'",
    ]


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@host/name")
    write("model_list: [{model_name: a, litellm_params: {model: openai/b, api_key: hunter2}}]")
    assert "hunter2" not in repr(load()[0])


def test_a_model_list_is_read_in_litellms_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-1")
    write(
        "model_list:\n"
        "- model_name: gpt-4o\n"
        "  litellm_params: {model: openai/gpt-4o-2024, api_base: 'http://a/v1', api_key: os.environ/UPSTREAM_KEY, rpm: 6}\n"
        "- {model_name: jan-v1-4b, litellm_params: {model: demo/demo}}\n"
    )
    first, second = load()[0].model_list
    assert (first.model_name, first.litellm_params.model) == ("gpt-4o", "openai/gpt-4o-2024")
    assert first.litellm_params.api_base == "http://a/v1"
    assert first.litellm_params.api_key is not None
    assert first.litellm_params.api_key.get_secret_value() == "sk-1"
    assert (second.litellm_params.model, second.litellm_params.api_key) == ("demo/demo", None)


def test_a_faulty_model_is_named_by_its_place() -> None:
    write("model_list: [{model_name: a, litellm_params: {model: openai/b, api_key: os.environ/NO_SUCH_KEY}}]")
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == "model_list.0.litellm_params.api_key: the environment has no NO_SUCH_KEY"


def test_what_has_no_effect_is_said() -> None:
    write("prot: 1\nlitellm_settings: {}\n")
    assert load()[1] == [
        "loquent.yaml: prot has no effect; did you mean port?",
        "loquent.yaml: litellm_settings has no effect",
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: b: c", "LOQUENT_CONFIG: given.yaml is not YAML, line 1"),
        (b"- 1", "LOQUENT_CONFIG: given.yaml must hold `name: value` lines"),
        (b"\xff\xfe\x00", "LOQUENT_CONFIG: given.yaml cannot be read (UnicodeDecodeError)"),
        (None, "LOQUENT_CONFIG: given.yaml cannot be read (FileNotFoundError)"),
    ],
)
def test_a_named_file_that_cannot_serve_is_refused(
    monkeypatch: pytest.MonkeyPatch, content: bytes | None, line: str
) -> None:
    if content is not None:
        Path("given.yaml").write_bytes(content)
    monkeypatch.setenv("LOQUENT_CONFIG", "given.yaml")
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == line
