#!/bin/bash
# Succeeds when every model of a configuration has a version that answers. The image holds neither curl nor
# Python, so this speaks HTTP through bash. Whoever calls it sets a deadline.
#     healthcheck [CONFIG [PORT]]
set -euo pipefail
config=${1:-/config/models.config}
port=${2:-8501}

status() { # of a model, as the server's REST interface tells it
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'GET /v1/models/%s HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
    cat <&3
}

models=$(sed -nE 's/^[[:space:]]*name:[[:space:]]*"([^"]+)".*/\1/p' "$config")
if [[ -z $models ]]; then
    echo "$config: names no model" >&2
    exit 1
fi
for model in $models; do
    if [[ ! $(status "$model") =~ \"state\":\ *\"AVAILABLE\" ]]; then
        echo "$model: no version of it answers" >&2
        exit 1
    fi
done
