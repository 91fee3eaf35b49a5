from pathlib import Path

import pytest

from engine.prices import Prices, per_token
from engine.vault import Secret
from server import reference, tool_list
from server.app import create_app
from server.settings import Settings, SettingsError, load, near_misses, origins

NO_ADDRESS = "not an address of SQLite or PostgreSQL, such as postgresql://host/name"
FAULTY = [
    ("PORT", "eighty", "PORT: Input should be a valid integer, unable to parse string as an integer"),
    ("HTTP_PORT", "70000", "HTTP_PORT: Input should be less than or equal to 65535"),
    ("LOG_LEVEL", "loud", "LOG_LEVEL: Input should be 'debug', 'info', 'warn', 'warning' or 'error'"),
    ("DATABASE_URL", "mysql://me:hunter2@host/name", f"DATABASE_URL: {NO_ADDRESS}"),
    ("DB_DSN", "hunter2", f"DB_DSN: {NO_ADDRESS}"),
    ("GUESTS", "perhaps", "GUESTS: Input should be a valid boolean, unable to interpret input"),
    ("OPENAI_BASE_URL", "localhost:1", "OPENAI_BASE_URL: String should match pattern '^https?://[^/]'"),
    ("RATE_LIMIT", "100/hour", "RATE_LIMIT: Input should be a valid integer, unable to parse string as an integer"),
    ("MAX_GENERATIONS", "-1", "MAX_GENERATIONS: Input should be greater than or equal to 0"),
    ("REDIS_URL", "http://:hunter2@host", "REDIS_URL: not an address of Redis, such as redis://host:6379/0"),
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


def test_limits_are_numbers_a_minute_and_nought_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = load()
    assert (settings.rate_limit, settings.guest_rate_limit, settings.address_rate_limit) == (100, 60, 30)
    assert (settings.login_rate_limit, settings.max_generations, settings.guest_max_generations) == (10, 8, 2)
    monkeypatch.setenv("RATE_LIMIT", "250/minute")
    monkeypatch.setenv("GUEST_RATE_LIMIT", "0")
    monkeypatch.setenv("REDIS_URL", "rediss://:hunter2@cache.example:6380/1")
    settings, _ = load()
    assert (settings.rate_limit, settings.guest_rate_limit) == (250, 0)
    assert "hunter2" not in repr(settings)


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


def test_prices_are_read_where_litellm_has_them() -> None:
    write(
        "model_list:\n"
        "- {model_name: a, litellm_params: {model: openai/a},"
        " model_info: {input_cost_per_token: 1e-6, output_cost_per_token: 0.000002, cache_read_input_token_cost: 1e-7}}\n"
        "- {model_name: b, litellm_params: {model: openai/b, input_cost_per_token: 0, output_cost_per_token: 0},"
        " model_info: {input_cost_per_token: 1e-6}}\n"
        "- {model_name: c, litellm_params: {model: openai/c}}\n"
    )
    settings, warnings = load()
    prices = [model.prices for model in settings.model_list]
    assert prices == [per_token(1e-6, 2e-6, 1e-7), Prices(0, 0), None]
    assert warnings == []


def test_what_a_model_says_in_vain_is_told() -> None:
    write(
        "model_list:\n"
        "- {model_name: a, litellm_params: {model: openai/a, rpn: 6}, model_info: {mode: chat}, tags: [x]}\n"
        "- {model_name: b, litellm_params: {model: openai/b}, model_info: {input_cost_per_token: 1e-6}}\n"
    )
    assert load()[1] == [
        "loquent.yaml: model_list: a: tags has no effect",
        "loquent.yaml: model_list: a: litellm_params.rpn has no effect",
        "loquent.yaml: model_list: a: model_info.mode has no effect",
        "loquent.yaml: model_list: b: half a price is none; give input_cost_per_token and output_cost_per_token",
    ]


def test_price_for_a_million_tokens_is_not_taken_for_that_of_one() -> None:
    write("model_list: [{model_name: a, litellm_params: {model: openai/b, input_cost_per_token: 3}}]")
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == (
        "model_list.0.litellm_params.input_cost_per_token: Input should be less than or equal to 0.01"
    )


def test_a_faulty_model_is_named_by_its_place() -> None:
    write("model_list: [{model_name: a, litellm_params: {model: openai/b, api_key: os.environ/NO_SUCH_KEY}}]")
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == "model_list.0.litellm_params.api_key: the environment has no NO_SUCH_KEY"


def test_what_has_no_effect_is_said() -> None:
    write("prot: 1\nguardrails: []\nlitellm_settings: {drop_params: true}\n")
    assert load()[1] == [
        "loquent.yaml: prot has no effect; did you mean port?",
        "loquent.yaml: guardrails has no effect",
        "loquent.yaml: litellm_settings.drop_params has no effect",
    ]


@pytest.mark.parametrize(
    "content",
    [
        "fallbacks: [{a: [b, c]}]",
        "router_settings: {fallbacks: [{a: [b, c]}]}",
        "litellm_settings: {fallbacks: [{a: [b, c]}]}",
    ],
)
def test_fallbacks_are_read_where_litellm_has_them(content: str) -> None:
    write(content)
    settings, warnings = load()
    assert (settings.fallbacks, warnings) == (({"a": ("b", "c")},), [])


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


EXTERNAL = {
    "JWKS_URL": "http://keycloak:8085/realms/jan/protocol/openid-connect/certs",
    "ISSUER": "http://localhost:8090/realms/jan",
    "AUDIENCE": "jan-client",
}


def test_external_sign_in_is_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load()[0].keys_address is None
    for name, value in EXTERNAL.items():
        monkeypatch.setenv(name, value)
    assert load()[0].keys_address == EXTERNAL["JWKS_URL"]
    for name, value in EXTERNAL.items():
        monkeypatch.delenv(name)
        with pytest.raises(SettingsError, match="external sign-in needs JWKS_URL, ISSUER and AUDIENCE"):
            load()
        monkeypatch.setenv(name, value)


def test_realm_of_keycloak_need_not_say_where_its_keys_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYCLOAK_BASE_URL", "http://keycloak:8085/")
    with pytest.raises(SettingsError, match="external sign-in needs"):
        load()
    monkeypatch.setenv("AUDIENCE", EXTERNAL["AUDIENCE"])
    monkeypatch.setenv("ISSUER", "http://localhost:8090/somewhere")
    with pytest.raises(SettingsError, match="external sign-in needs"):
        load()
    monkeypatch.setenv("ISSUER", EXTERNAL["ISSUER"] + "/")
    assert load()[0].keys_address == EXTERNAL["JWKS_URL"]
    monkeypatch.setenv("JWKS_URL", "https://elsewhere.example.com/keys")
    assert load()[0].keys_address == "https://elsewhere.example.com/keys"


def test_algorithms_of_the_issuer_are_chosen_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load()[0].jwks_algorithms == ("RS256", "ES256")
    monkeypatch.setenv("JWKS_ALGORITHMS", "ES256")
    assert load()[0].jwks_algorithms == ("ES256",)
    monkeypatch.setenv("JWKS_ALGORITHMS", "RS256, HS256")
    with pytest.raises(SettingsError, match="JWKS_ALGORITHMS"):
        load()


def test_first_administrator_has_an_address_and_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_PASSWORD", "hunter2")
    with pytest.raises(SettingsError, match="ADMIN_EMAIL and ADMIN_PASSWORD go together"):
        load()
    monkeypatch.setenv("ADMIN_EMAIL", "root@example.com")
    assert "hunter2" not in repr(load()[0])


def test_tool_servers_are_read_in_the_words_of_mcps_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    write(
        "mcp_servers:\n"
        "  files: {command: npx, args: [-y, server, 8080], env: {KEY: os.environ/TOKEN, DEBUG: true}, cwd: /srv}\n"
        "  web: {type: http, url: 'https://example.com/mcp', headers: {Authorization: Bearer x}, tags: [web], timeout: 5}\n"
        "  away: {url: 'https://example.com/mcp', disabled: true, autoApprove: []}\n"
    )
    settings, warnings = load()
    assert warnings == ["loquent.yaml: mcp_servers: away: autoApprove has no effect"]
    files, web = tool_list.specs(settings.mcp_servers)
    assert (files.name, files.command, files.args, files.folder) == ("files", "npx", ("-y", "server", "8080"), "/srv")
    assert files.environment == {"KEY": Secret("hunter2"), "DEBUG": Secret("true")}
    assert (web.url, web.headers, web.tags, web.patience, web.is_guarded) == (
        "https://example.com/mcp",
        {"Authorization": Secret("Bearer x")},
        ("web",),
        5,
        False,
    )
    assert "hunter2" not in repr(settings) + repr(files)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("a: {}", "mcp_servers.a: give either the command of a server or its url"),
        ("a: {command: x, url: 'http://y'}", "mcp_servers.a: give either the command of a server or its url"),
        ("a: {url: 'ftp://hunter2'}", "mcp_servers.a: the url must begin with http:// or https://"),
        (
            "a: {url: 'http://y', headers: {A: os.environ/NOWHERE}}",
            "mcp_servers.a.headers.A: the environment has no NOWHERE",
        ),
        ("a: {url: 'http://y', type: sse}", "mcp_servers.a.type: Input should be"),
        ("'a b': {url: 'http://y'}", "mcp_servers.a b"),
    ],
)
def test_a_tool_server_that_does_not_hold_is_refused(entry: str, fault: str) -> None:
    write(f"mcpServers:\n  {entry}\n")
    with pytest.raises(SettingsError) as caught:
        load()
    assert fault in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_passwords_cannot_be_made_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PASSWORD_MEMORY", "19455"), ("PASSWORD_ITERATIONS", "1")):
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match=name):
            load()
        monkeypatch.delenv(name)


def test_every_setting_says_what_it_means_in_a_sentence() -> None:
    undescribed = [entry.field for entry in reference.entries() if not entry.meaning.endswith(".")]
    assert undescribed == [], "write the meaning as a text below the field in server/settings.py"


def test_reference_of_the_settings_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == reference.markdown(), "run `make settings`"


def test_where_each_value_comes_from_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    write("host: 0.0.0.0\nport: 1\n")
    monkeypatch.setenv("HTTP_PORT", "2")
    found = origins()
    assert found.pop("port") == "environment HTTP_PORT"
    assert found.pop("host") == "file loquent.yaml"
    assert set(found.values()) == {"default"}


def test_a_misspelled_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABSE_URL", "postgresql://hunter2@host/name")
    monkeypatch.setenv("HOSTNAME", "here")
    assert near_misses() == ["DATABSE_URL has no effect; did you mean DATABASE_URL?"]


def test_only_persisted_documents_need_a_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSISTED_ONLY", "true")
    with pytest.raises(SettingsError, match="PERSISTED_ONLY needs PERSISTED_DOCUMENTS"):
        load()


def test_manifest_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "manifest.json"
    with pytest.raises(SettingsError, match=r"PERSISTED_DOCUMENTS: .*manifest\.json cannot be read"):
        create_app(Settings(data=tmp_path, persisted_documents=missing))
    missing.write_text('{"old": "{gone}"}', encoding="utf-8")
    with pytest.raises(SettingsError, match="PERSISTED_DOCUMENTS: the persisted document 'old' does not hold"):
        create_app(Settings(data=tmp_path, persisted_documents=missing))
