#!/bin/sh
# Make or refresh .venv: `setup_venv.sh product` installs millstream, `setup_venv.sh dev` its checks and tests as well.
# Packages come from wherever the caller's own pip configuration says.
set -eu
cd "$(dirname "$0")/.."
what=$1
python=${PYTHON:-python3}

fail() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "'$python' not found; name a Python 3.11 or later: make PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "'$python' is $("$python" --version 2>&1); millstream needs 3.11 or later: make PYTHON=/path/to/python3.11"

# Two makes at a time must not install into one environment at once.
if command -v flock >/dev/null 2>&1; then
    exec 9>.venv.lock
    flock 9
fi

usable() { .venv/bin/python -m pip --version >/dev/null 2>&1; }

# Debian ships Python without ensurepip; each of these gets along with less, or with something else, than the one before.
make_venv() {
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 && usable && return
    rm -rf .venv
    "$python" -m virtualenv --quiet .venv >/dev/null 2>&1 && usable && return
    rm -rf .venv
    # pip 22.3 and later installs into another interpreter's environment, so nothing is added to the system's own.
    "$python" -m venv --without-pip .venv >/dev/null 2>&1 &&
        "$python" -m pip --quiet --python .venv/bin/python install pip >/dev/null 2>&1 && usable && return
    rm -rf .venv
    command -v uv >/dev/null 2>&1 && uv --quiet venv --seed --python "$python" .venv && usable && return
    rm -rf .venv
    return 1
}

apt_line="apt-get install -y python3-venv"
if ! usable; then
    echo "setup: making .venv with $("$python" --version)"
    if ! make_venv; then
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || fail "no way to make a virtual environment here; run: sudo $apt_line"
        echo "setup: $apt_line"
        { apt-get update && $apt_line; } >/dev/null 2>&1 && make_venv || fail "no way to make a virtual environment here; try: $apt_line"
    fi
fi

# RabbitMQ is the one server that no wheel carries; the tests start nodes of their own from Debian's package.
have_rabbitmq() { ls /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server >/dev/null 2>&1; }
need_rabbitmq() {
    have_rabbitmq && return
    line="apt-get install -y --no-install-recommends rabbitmq-server"
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || fail "the tests need RabbitMQ; run: sudo $line"
    echo "setup: $line"
    # RUNLEVEL=1: the machine's own node is not started.
    { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $line; } >/dev/null 2>&1 && have_rabbitmq ||
        fail "RabbitMQ, which the tests need, could not be installed; try: $line"
}

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

echo "setup: installing millstream ($what) into .venv"
case $what in
product)
    pip install --quiet --editable .
    touch .venv/.product
    ;;
dev)
    need_rabbitmq
    pip install --quiet 'pip>=25.1' # the first that knows dependency groups
    pip install --quiet --editable '.[celery,django,flask,postgres,redis,server]' --group dev
    touch .venv/.product .venv/.dev
    ;;
*) fail "usage: setup_venv.sh product|dev" ;;
esac
