CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE usage_records (
	id VARCHAR NOT NULL, 
	generation_id VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	user_id VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	prompt_tokens INTEGER NOT NULL, 
	completion_tokens INTEGER NOT NULL, 
	provenance VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, cached_tokens INTEGER DEFAULT '0' NOT NULL, reasoning_tokens INTEGER DEFAULT '0' NOT NULL, cost_nanos BIGINT, duration_ms INTEGER DEFAULT '0' NOT NULL, conversation_id VARCHAR, credential_id VARCHAR, 
	CONSTRAINT pk_usage_records PRIMARY KEY (id), 
	CONSTRAINT uq_usage_records_generation_id_attempt UNIQUE (generation_id, attempt)
);

CREATE INDEX ix_usage_records_user ON usage_records (user_id, created_at);

CREATE TABLE users (
	id VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	email VARCHAR, 
	display_name VARCHAR, 
	created_at DATETIME NOT NULL, password_hash VARCHAR, preferred_model VARCHAR, preferences JSON DEFAULT '{}' NOT NULL, issuer VARCHAR, subject VARCHAR, last_change INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_users PRIMARY KEY (id), 
	CONSTRAINT uq_users_email UNIQUE (email)
);

CREATE TABLE auth_sessions (
	id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	CONSTRAINT pk_auth_sessions PRIMARY KEY (id), 
	CONSTRAINT fk_auth_sessions_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_auth_sessions_user_id ON auth_sessions (user_id);

CREATE TABLE conversations (
	id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	title VARCHAR, 
	metadata JSON NOT NULL, 
	is_archived BOOLEAN NOT NULL, 
	version INTEGER NOT NULL, 
	active_branch VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, is_title_own BOOLEAN DEFAULT 0 NOT NULL, project_id VARCHAR, referrer VARCHAR, 
	CONSTRAINT pk_conversations PRIMARY KEY (id), 
	CONSTRAINT fk_conversations_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_conversations_created ON conversations (user_id, is_archived, created_at, id);

CREATE INDEX ix_conversations_recent ON conversations (user_id, is_archived, updated_at, id);

CREATE TABLE branches (
	id VARCHAR NOT NULL, 
	conversation_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	parent_id VARCHAR, 
	fork_position INTEGER NOT NULL, 
	length INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_branches PRIMARY KEY (id), 
	CONSTRAINT fk_branches_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_branches_parent_id_branches FOREIGN KEY(parent_id) REFERENCES branches (id) ON DELETE CASCADE, 
	CONSTRAINT uq_branches_conversation_id_name UNIQUE (conversation_id, name)
);

CREATE TABLE generations (
	id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	conversation_id VARCHAR, 
	item_id VARCHAR, 
	model VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	on_disconnect VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	worker_id VARCHAR, 
	last_seq INTEGER NOT NULL, 
	text VARCHAR NOT NULL, 
	reasoning VARCHAR NOT NULL, 
	finish_reason VARCHAR, 
	error_code VARCHAR, 
	error_message VARCHAR, 
	error_is_retryable BOOLEAN, 
	prompt_tokens INTEGER NOT NULL, 
	completion_tokens INTEGER NOT NULL, 
	usage_provenance VARCHAR, 
	created_at DATETIME NOT NULL, 
	finished_at DATETIME, credential_id VARCHAR, has_events BOOLEAN DEFAULT 1 NOT NULL, tool_calls JSON DEFAULT '[]' NOT NULL, cached_tokens INTEGER DEFAULT '0' NOT NULL, reasoning_tokens INTEGER DEFAULT '0' NOT NULL, cost_nanos BIGINT, 
	CONSTRAINT pk_generations PRIMARY KEY (id), 
	CONSTRAINT fk_generations_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_generations_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_generations_conversation_id ON generations (conversation_id);

CREATE INDEX ix_generations_recent ON generations (user_id, created_at);

CREATE TABLE refresh_tokens (
	id VARCHAR NOT NULL, 
	session_id VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	used_at DATETIME, successor VARCHAR, 
	CONSTRAINT pk_refresh_tokens PRIMARY KEY (id), 
	CONSTRAINT fk_refresh_tokens_session_id_auth_sessions FOREIGN KEY(session_id) REFERENCES auth_sessions (id) ON DELETE CASCADE
);

CREATE INDEX ix_refresh_tokens_session_id ON refresh_tokens (session_id);

CREATE TABLE generation_events (
	generation_id VARCHAR NOT NULL, 
	first_seq INTEGER NOT NULL, 
	last_seq INTEGER NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_generation_events PRIMARY KEY (generation_id, first_seq), 
	CONSTRAINT fk_generation_events_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id) ON DELETE CASCADE
);

CREATE TABLE items (
	id VARCHAR NOT NULL, 
	conversation_id VARCHAR NOT NULL, 
	branch_id VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	type VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	content JSON NOT NULL, 
	is_plain BOOLEAN NOT NULL, 
	generation_id VARCHAR, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, parent_id VARCHAR, version INTEGER DEFAULT '1' NOT NULL, rating VARCHAR, rating_comment VARCHAR, 
	CONSTRAINT pk_items PRIMARY KEY (id), 
	CONSTRAINT fk_items_branch_id_branches FOREIGN KEY(branch_id) REFERENCES branches (id) ON DELETE CASCADE, 
	CONSTRAINT fk_items_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT uq_items_branch_id_position UNIQUE (branch_id, position)
);

CREATE INDEX ix_items_generation_id ON items (generation_id);

CREATE TABLE audit_records (
	id VARCHAR NOT NULL, 
	actor_id VARCHAR, 
	action VARCHAR NOT NULL, 
	target_id VARCHAR, 
	details JSON NOT NULL, 
	request_id VARCHAR, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_audit_records PRIMARY KEY (id)
);

CREATE INDEX ix_audit_records_created ON audit_records (created_at, id);

CREATE TABLE api_keys (
	id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	lookup VARCHAR NOT NULL, 
	secret_hash VARCHAR NOT NULL, 
	prefix VARCHAR NOT NULL, 
	suffix VARCHAR NOT NULL, 
	scopes JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	last_used_at DATETIME, 
	revoked_at DATETIME, 
	CONSTRAINT pk_api_keys PRIMARY KEY (id), 
	CONSTRAINT fk_api_keys_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_api_keys_lookup UNIQUE (lookup)
);

CREATE INDEX ix_api_keys_user ON api_keys (user_id, created_at);

CREATE TABLE invites (
	id VARCHAR NOT NULL, 
	created_by VARCHAR, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	used_at DATETIME, 
	used_by VARCHAR, 
	CONSTRAINT pk_invites PRIMARY KEY (id), 
	CONSTRAINT fk_invites_created_by_users FOREIGN KEY(created_by) REFERENCES users (id) ON DELETE SET NULL
);

CREATE TABLE provider_keys (
	id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	origin VARCHAR NOT NULL, 
	credential_type VARCHAR NOT NULL, 
	ciphertext VARCHAR NOT NULL, 
	hint VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_provider_keys PRIMARY KEY (id), 
	CONSTRAINT fk_provider_keys_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_provider_keys_user_id_provider UNIQUE (user_id, provider)
);

CREATE UNIQUE INDEX uq_users_issuer_subject ON users (issuer, subject);

CREATE TABLE changes (
	user_id VARCHAR NOT NULL, 
	seq INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	conversation_id VARCHAR NOT NULL, 
	item_id VARCHAR, 
	generation_id VARCHAR, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_changes PRIMARY KEY (user_id, seq), 
	CONSTRAINT fk_changes_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_changes_created_at ON changes (created_at);

CREATE TABLE projects (
	id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	instruction VARCHAR, 
	is_favorite BOOLEAN NOT NULL, 
	archived_at DATETIME, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_projects PRIMARY KEY (id), 
	CONSTRAINT fk_projects_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_projects_user_id_name UNIQUE (user_id, name)
);

CREATE TABLE user_settings (
	user_id VARCHAR NOT NULL, 
	"values" JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_user_settings PRIMARY KEY (user_id), 
	CONSTRAINT fk_user_settings_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE TABLE shares (
	id VARCHAR NOT NULL, 
	slug VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	conversation_id VARCHAR NOT NULL, 
	branch VARCHAR NOT NULL, 
	branch_id VARCHAR, 
	item_id VARCHAR, 
	until_position INTEGER, 
	title VARCHAR, 
	options JSON NOT NULL, 
	view_count INTEGER NOT NULL, 
	last_viewed_at DATETIME, 
	like_count INTEGER NOT NULL, 
	unlike_count INTEGER NOT NULL, 
	expires_at DATETIME, 
	revoked_at DATETIME, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_shares PRIMARY KEY (id), 
	CONSTRAINT fk_shares_branch_id_branches FOREIGN KEY(branch_id) REFERENCES branches (id) ON DELETE CASCADE, 
	CONSTRAINT fk_shares_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_shares_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_shares_slug UNIQUE (slug)
);

CREATE INDEX ix_shares_conversation_id ON shares (conversation_id);

CREATE INDEX ix_shares_branch_id ON shares (branch_id);

CREATE INDEX ix_branches_parent_id ON branches (parent_id);

CREATE INDEX ix_shares_user ON shares (user_id, id);

CREATE INDEX ix_conversations_project_id ON conversations (project_id);

CREATE INDEX ix_items_siblings ON items (conversation_id, parent_id);

CREATE INDEX ix_items_conversation_id ON items (conversation_id, id);

CREATE TABLE search_entries (
	id INTEGER NOT NULL, 
	user_id VARCHAR NOT NULL, 
	conversation_id VARCHAR NOT NULL, 
	item_id VARCHAR, 
	kind VARCHAR NOT NULL, 
	words VARCHAR NOT NULL, 
	tokens VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_search_entries PRIMARY KEY (id), 
	CONSTRAINT fk_search_entries_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_search_entries_item_id_items FOREIGN KEY(item_id) REFERENCES items (id) ON DELETE CASCADE, 
	CONSTRAINT uq_search_entries_item_id UNIQUE (item_id)
);

CREATE INDEX ix_search_entries_conversation_id ON search_entries (conversation_id);

CREATE VIRTUAL TABLE search_index USING fts5
    (tokens, content='search_entries', content_rowid='id', tokenize='ascii', detail=none);

CREATE TRIGGER search_entries_added AFTER INSERT ON search_entries BEGIN
    INSERT INTO search_index (rowid, tokens) VALUES (new.id, new.tokens); END;

CREATE TRIGGER search_entries_removed AFTER DELETE ON search_entries BEGIN
    INSERT INTO search_index (search_index, rowid, tokens) VALUES ('delete', old.id, old.tokens); END;

CREATE TABLE workers (
	id VARCHAR NOT NULL, 
	beat INTEGER NOT NULL, 
	running JSON NOT NULL, 
	viewing JSON NOT NULL, 
	started_at DATETIME NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_workers PRIMARY KEY (id)
);

CREATE TABLE cancellations (
	generation_id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_cancellations PRIMARY KEY (generation_id, user_id)
);

CREATE TABLE idempotency_keys (
	user_id VARCHAR NOT NULL, 
	"key" VARCHAR NOT NULL, 
	fingerprint VARCHAR NOT NULL, 
	result JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY (user_id, "key"), 
	CONSTRAINT fk_idempotency_keys_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);

CREATE TABLE budgets (
	subject_id VARCHAR NOT NULL, 
	period VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	limit_nanos BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_budgets PRIMARY KEY (subject_id, period), 
	CONSTRAINT fk_budgets_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_budgets_user_id ON budgets (user_id);

CREATE TABLE reservations (
	generation_id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	credential_id VARCHAR, 
	amount_nanos BIGINT NOT NULL, 
	expires_at DATETIME NOT NULL, 
	CONSTRAINT pk_reservations PRIMARY KEY (generation_id), 
	CONSTRAINT fk_reservations_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_reservations_user ON reservations (user_id);

CREATE INDEX ix_generations_unfinished ON generations (worker_id) WHERE finished_at IS NULL;

CREATE INDEX ix_generations_finished ON generations (finished_at) WHERE has_events;

CREATE INDEX ix_usage_records_created_at ON usage_records (created_at);

CREATE INDEX ix_usage_records_credential ON usage_records (credential_id, created_at);

CREATE TABLE catalog_models (
	id VARCHAR NOT NULL, 
	changes JSON NOT NULL, 
	is_enabled BOOLEAN NOT NULL, 
	fallbacks JSON NOT NULL, 
	tags JSON NOT NULL, 
	is_changed BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, is_pinned BOOLEAN, 
	CONSTRAINT pk_catalog_models PRIMARY KEY (id)
);

CREATE TABLE providers (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	vendor VARCHAR NOT NULL, 
	base_url VARCHAR NOT NULL, 
	origin VARCHAR NOT NULL, 
	ciphertext VARCHAR, 
	hint VARCHAR, 
	is_configured BOOLEAN NOT NULL, 
	is_active BOOLEAN NOT NULL, 
	metadata JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_providers PRIMARY KEY (id), 
	CONSTRAINT uq_providers_name UNIQUE (name)
);

CREATE TABLE provider_models (
	id VARCHAR NOT NULL, 
	provider_id VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	listed JSON NOT NULL, 
	changes JSON NOT NULL, 
	is_listed BOOLEAN DEFAULT 1 NOT NULL, 
	is_enabled BOOLEAN NOT NULL, 
	default_temperature DOUBLE, 
	max_tokens INTEGER, 
	requests_per_minute INTEGER, 
	tokens_per_minute INTEGER, 
	tags JSON NOT NULL, 
	weight DOUBLE, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_provider_models PRIMARY KEY (id), 
	CONSTRAINT fk_provider_models_provider_id_providers FOREIGN KEY(provider_id) REFERENCES providers (id) ON DELETE CASCADE, 
	CONSTRAINT uq_provider_models_provider_id_model_name UNIQUE (provider_id, model, name)
);

CREATE INDEX ix_provider_models_name ON provider_models (name);

CREATE TABLE tool_calls (
	id VARCHAR NOT NULL, 
	generation_id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	arguments VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	output VARCHAR NOT NULL, 
	is_error BOOLEAN NOT NULL, 
	code VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	CONSTRAINT pk_tool_calls PRIMARY KEY (id), 
	CONSTRAINT fk_tool_calls_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_tool_calls_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_tool_calls_generation_id ON tool_calls (generation_id);

CREATE INDEX ix_tool_calls_user_id ON tool_calls (user_id);

CREATE TABLE tool_servers (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	transport VARCHAR NOT NULL, 
	url VARCHAR NOT NULL, 
	ciphertext VARCHAR, 
	header_names JSON NOT NULL, 
	tags JSON NOT NULL, 
	is_configured BOOLEAN NOT NULL, 
	is_enabled BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_tool_servers PRIMARY KEY (id), 
	CONSTRAINT uq_tool_servers_name UNIQUE (name)
);

CREATE TABLE tools (
	id VARCHAR NOT NULL, 
	server_id VARCHAR NOT NULL, 
	remote_name VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	title VARCHAR NOT NULL, 
	description VARCHAR NOT NULL, 
	parameters JSON NOT NULL, 
	hints JSON NOT NULL, 
	problem VARCHAR NOT NULL, 
	is_listed BOOLEAN NOT NULL, 
	is_enabled BOOLEAN NOT NULL, 
	reason VARCHAR, 
	own_description VARCHAR, 
	category VARCHAR, 
	tags JSON NOT NULL, 
	disallowed_keywords JSON NOT NULL, 
	require_approval BOOLEAN, 
	require_approval_for JSON NOT NULL, 
	metadata JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	CONSTRAINT pk_tools PRIMARY KEY (id), 
	CONSTRAINT fk_tools_server_id_tool_servers FOREIGN KEY(server_id) REFERENCES tool_servers (id) ON DELETE CASCADE, 
	CONSTRAINT uq_tools_name UNIQUE (name), 
	CONSTRAINT uq_tools_server_id_remote_name UNIQUE (server_id, remote_name)
);

CREATE TABLE media (
	id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	digest VARCHAR, 
	mime VARCHAR NOT NULL, 
	size BIGINT NOT NULL, 
	name VARCHAR, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_media PRIMARY KEY (id), 
	CONSTRAINT fk_media_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_media_user_id_digest UNIQUE (user_id, digest)
);

CREATE INDEX ix_media_user_id ON media (user_id);

CREATE TABLE approvals (
	id VARCHAR NOT NULL, 
	generation_id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	conversation_id VARCHAR, 
	call_id VARCHAR NOT NULL, 
	tool VARCHAR NOT NULL, 
	arguments VARCHAR NOT NULL, 
	changed VARCHAR, 
	status VARCHAR NOT NULL, 
	reason VARCHAR NOT NULL, 
	decided_by VARCHAR, 
	decided_at DATETIME, 
	expires_at DATETIME NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_approvals PRIMARY KEY (id), 
	CONSTRAINT fk_approvals_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_approvals_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX ix_approvals_generation_id ON approvals (generation_id);

CREATE INDEX ix_approvals_user ON approvals (user_id, id);

CREATE INDEX ix_approvals_pending ON approvals (expires_at) WHERE status = 'pending';

CREATE TABLE pauses (
	generation_id VARCHAR NOT NULL, 
	state JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_pauses PRIMARY KEY (generation_id), 
	CONSTRAINT fk_pauses_generation_id_generations FOREIGN KEY(generation_id) REFERENCES generations (id) ON DELETE CASCADE
);

INSERT INTO alembic_version VALUES ('0011')
