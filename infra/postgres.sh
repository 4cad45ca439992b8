#!/usr/bin/env bash
# A PostgreSQL of one's own, for tests: loopback only, a free port, no password, thrown away afterwards.
#
#   infra/postgres.sh start DIR   makes a cluster in DIR (which must not exist, or be empty), starts it and prints its
#                                 address
#   infra/postgres.sh stop DIR    stops it and removes DIR
#
# The server also speaks TLS, as localhost; the root of its certificate is DIR/data/root.crt.
set -euo pipefail

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[ $# -eq 2 ] || usage
dir=$2

# The newest installed server.
binaries() {
  local found
  found=$(ls -d /usr/lib/postgresql/*/bin/pg_ctl 2>/dev/null | sort -V | tail -n 1)
  found=${found:-$(command -v pg_ctl || true)}
  if [ -z "$found" ]; then
    echo "no PostgreSQL server found; on Debian: apt-get install postgresql" >&2
    exit 1
  fi
  dirname "$(readlink -f "$found")"
}

# PostgreSQL refuses to run as root.
as_owner() {
  if [ "$(id -u)" -eq 0 ]; then
    (cd / && exec runuser -u postgres -- "$@")
  else
    (cd / && exec "$@")
  fi
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# A root and a server's certificate, for localhost.
certificates() (
  set -e
  cd "$dir/data"
  ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
  openssl req -x509 $ec -days 30 -subj "/CN=test root" -keyout root.key -out root.crt
  openssl req $ec -subj /CN=localhost -keyout server.key -out server.csr
  printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >server.ext
  openssl x509 -req -in server.csr -CA root.crt -CAkey root.key -CAcreateserial -days 30 -extfile server.ext \
    -out server.crt
  chmod 600 server.key
  if [ "$(id -u)" -eq 0 ]; then
    chown postgres root.crt server.key server.crt
  fi
)

start() {
  if [ -n "$(ls -A "$dir" 2>/dev/null)" ]; then
    echo "$dir is not empty" >&2
    exit 1
  fi
  local bin port
  bin=$(binaries)
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  if [ "$(id -u)" -eq 0 ]; then
    chown postgres "$dir"
  fi
  if ! as_owner test -w "$dir"; then
    echo "$dir can't be reached by the user postgres: take a folder under /tmp" >&2
    exit 1
  fi
  as_owner "$bin/initdb" -D "$dir/data" -U penstock -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log" >&2; exit 1; }
  certificates >"$dir/openssl.log" 2>&1 || { cat "$dir/openssl.log" >&2; exit 1; }
  as_owner tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
ssl = on
# Thrown away afterwards: nothing need survive a power cut.
fsync = off
full_page_writes = off
max_connections = 200
CONF
  # A port found free may be taken the next moment.
  for _ in 1 2 3 4 5; do
    port=$(free_port)
    if as_owner "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -o "-p $port" -w -t 60 start >/dev/null 2>&1; then
      as_owner "$bin/createdb" -h 127.0.0.1 -p "$port" -U penstock penstock || { stop; exit 1; }
      echo "postgres://penstock@127.0.0.1:$port/penstock?sslmode=disable"
      return
    fi
  done
  cat "$dir/server.log" >&2
  exit 1
}

stop() {
  if [ -f "$dir/data/PG_VERSION" ]; then
    as_owner "$(binaries)/pg_ctl" -D "$(cd "$dir" && pwd)/data" -m immediate -w stop >/dev/null || true
    rm -rf -- "$dir"
  fi
}

case $1 in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
