#!/usr/bin/env bash
# Readiness of role decode of ModelServing dsv31, rendered by Baton: 1 process(es) answer.
set -o nounset

address=127.0.0.1

# Whether the rank behind a port answers 200; in a subshell, which closes the connection.
is_healthy() (
  exec 3<>"/dev/tcp/$address/$1" || return 1
  printf 'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
  read -r -t 5 _ status _ <&3 && [[ $status == 200 ]]
)

for ((port = 7100; port < 7101; port++)); do
  is_healthy "$port" 2>/dev/null || {
    echo "the rank on port $port is not ready"
    exit 1
  }
done
