#!/usr/bin/env bash
# Nothing but curl: send a message, stream the answer, lose the connection, and come back for exactly the rest.
# LOQUENT says where the server is; http://localhost:8000 unless it does.
set -euo pipefail
base=${LOQUENT:-http://localhost:8000}
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

token=$(curl -sf -X POST "$base/llm/auth/guest-login" | field access_token)
post() { curl -sf "$base$1" -H "authorization: Bearer $token" -H 'content-type: application/json' -d "$2"; }

conversation=$(post /v1/conversations '{"title": "First steps"}' | field id)
# The answer comes at once and names the generation.
generation=$(post "/v1/conversations/$conversation/items" '{"role": "user", "content": "Please count to 20"}' | field generation_id)

# Server-sent events; each has its number as `id`. `head` leaves after the first five.
follow() { curl -sfN "$base/v1/generations/$generation/events" -H "authorization: Bearer $token" "$@"; }
text() { grep '"delta"' | sed 's/.*"delta":"\([^"]*\)".*/\1/' | tr -d '\n'; }

follow 2>/dev/null | grep --line-buffered '^data:' | head -n 5 | text || true
printf '[connection lost after event 5; coming back] '
follow -H 'Last-Event-ID: 5' | grep '^data:' | text
echo
