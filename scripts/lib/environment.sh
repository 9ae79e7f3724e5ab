# shellcheck shell=bash
# Sourced by the scripts of the folder above. Makes the checkout's own Python environment in .venv, or brings it up to
# date when pyproject.toml has changed, and puts it first on PATH.
# PYTHON is the interpreter to make it from (python3). Sets ROOT, the checkout.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"

say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# install_debian_packages NAME… – fails, and changes nothing, where this is not Debian or not root.
install_debian_packages() {
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
    say "installing $* with apt-get"
    apt-get update -qq >/dev/null &&
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
}

make_environment() {
    local python="${PYTHON:-python3}" stamp="$VENV/.made-from" wanted lock
    # Two scripts started together must not install into one folder at the same time.
    exec {lock}<"$ROOT"
    flock "$lock"

    wanted="$(cat "$ROOT/pyproject.toml" "$ROOT/scripts/lib/environment.sh" | sha256sum)"
    if [[ ! -f $stamp || "$(<"$stamp")" != "$wanted" ]]; then
        if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
            say "making a Python environment in ${VENV#"$ROOT"/}"
            # Debian splits venv off; `import ensurepip` is what its absence breaks.
            "$python" -c 'import ensurepip, venv' 2>/dev/null ||
                install_debian_packages python3 python3-venv ||
                die "$python cannot make virtual environments; install python3 and python3-venv"
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
                die "$("$python" --version) is too old; deepterms needs Python 3.10 or newer (set PYTHON)"
            "$python" -m venv "$VENV"
        fi
        say "installing deepterms with everything its tests need"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8' >&2
        # uv keeps what it unpacked and links it, so the second environment on a machine takes seconds.
        (cd "$ROOT" && UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}" "$VENV/bin/uv" pip install --quiet \
            --python "$VENV/bin/python" --editable '.[all,efficientnet]' --group dev) >&2
        printf '%s\n' "$wanted" >"$stamp"
    fi
    exec {lock}<&-
    export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH"
}

make_environment
