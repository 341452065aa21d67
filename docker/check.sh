#!/usr/bin/env bash
# Builds docker/docker-compose.yml, runs a pipeline on its cluster, and takes it down again, in a
# project and on ports of its own. It needs Docker, or Podman and podman-compose.
# usage: docker/check.sh [demo]     with `demo`, `make demo` follows on the cluster
#
# A variable of docker/.env that is set in the environment has priority, and
#   OVERRIDE=FILE             is a second compose file, for example another S3 server
#   COMPOSE="docker compose"  names the command
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${COMPOSE:-}" ]; then
    read -ra compose <<< "$COMPOSE"
elif docker info > /dev/null 2>&1; then
    compose=(docker compose)
elif command -v podman > /dev/null && command -v podman-compose > /dev/null; then
    # The format of Docker has health checks, that of OCI has none.
    compose=(podman-compose --in-pod 0 --podman-build-args "--format docker")
else
    echo "error: neither a Docker engine nor podman and podman-compose are here" >&2
    exit 1
fi
engine=${compose[0]%-compose}

export MASTER_PORT=${MASTER_PORT:-28080} HISTORY_PORT=${HISTORY_PORT:-28081} S3_PORT=${S3_PORT:-27070}

image=${SPARKREC_IMAGE:-$(sed -n 's/^SPARKREC_IMAGE=//p' docker/.env)}
compose+=(-p sparkrec-check -f docker/docker-compose.yml)
[ -z "${OVERRIDE:-}" ] || compose+=(-f "$OVERRIDE")

step() { printf '\n== %s (after %d s)\n' "$1" "$SECONDS"; }
# podman-compose runs no service of a profile that is not named.
job() { "${compose[@]}" --profile job run --rm --no-deps -T job "$@"; }
down() { "${compose[@]}" --profile job down -v > /dev/null 2>&1 || true; }
ended() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        echo "error: the check failed; the last lines of the services:" >&2
        "${compose[@]}" logs --tail 20 >&2 || true
    fi
    down
    exit "$status"
}
# get URL EXPRESSION CONDITION: waits until the condition is true of the page's JSON, `page`, and
# prints the expression.
get() {
    python3 - "$@" <<'PYTHON'
import json
import sys
import time
import urllib.request

url, expression, condition = sys.argv[1:]
end = time.monotonic() + 120
while True:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            page = json.load(answer)
        if eval(condition):
            break
        seen = eval(expression)
    except OSError as error:
        seen = error
    if time.monotonic() > end:
        sys.exit(f"error: {url}: not `{condition}` within 120 seconds, but {seen}")
    time.sleep(1)
print(eval(expression))
PYTHON
}

trap ended EXIT
down

step "build"
"${compose[@]}" build master
built=$SECONDS
bytes=$("$engine" image inspect --format '{{.Size}}' "$image")

step "up"
"${compose[@]}" up -d
get "http://127.0.0.1:$MASTER_PORT/json/" \
    "[(w['state'], w['cores'], w['memory']) for w in page['workers']]" \
    "sum(w['state'] == 'ALIVE' for w in page['workers']) == 2"

step "the pipeline, with the data in the bucket"
job bash -c "$(cat docker/check-pipeline.sh)"

if [ "${1:-}" = demo ]; then
    step "make demo"
    job make demo
fi

step "the history server"
get "http://127.0.0.1:$HISTORY_PORT/api/v1/applications" \
    "'\n'.join(f\"{a['id']} {a['name']} {a['attempts'][0]['duration'] / 1000} s\" for a in page)" \
    "len(page) >= 6 and all(a['attempts'][0]['completed'] for a in page)"

step "down"
down
printf 'compose-check passed: build %d s, run %d s, image %d MB\n' \
    "$built" "$((SECONDS - built))" "$((bytes / 1000000))"
