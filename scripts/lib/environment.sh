# shellcheck shell=bash
# To be sourced by the scripts of the parent folder. Creates the checkout's Python environment in .venv, or updates it if
# pyproject.toml has changed, and puts it first on PATH. Sets ROOT, the folder of the checkout.
# PYTHON is the interpreter to create it with (default: python3).

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"

say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# install_debian_packages NAME… – fails without changing anything unless run as root on Debian.
install_debian_packages() {
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
    say "installing $* with apt-get"
    apt-get update -qq >/dev/null &&
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
}

create_environment() {
    local python="${PYTHON:-python3}" stamp="$VENV/.made-from" wanted lock
    # Two scripts that start together must not install into the same folder at once.
    exec {lock}<"$ROOT"
    flock "$lock"

    wanted="$(cat "$ROOT/pyproject.toml" "$ROOT/scripts/lib/environment.sh" | sha256sum)"
    if [[ ! -f $stamp || "$(<"$stamp")" != "$wanted" ]]; then
        if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
            say "creating a Python environment in ${VENV#"$ROOT"/}"
            # Debian packages venv separately; without it, `import ensurepip` fails.
            "$python" -c 'import ensurepip, venv' 2>/dev/null ||
                install_debian_packages python3 python3-venv ||
                die "$python cannot create virtual environments; install python3 and python3-venv"
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
                die "$("$python" --version) is too old; deepterms needs Python 3.10 or newer (set PYTHON)"
            "$python" -m venv "$VENV"
        fi
        say "installing deepterms and the dependencies of its tests: 6.5 GB with PyTorch for CUDA, one to several minutes"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8' >&2
        # uv links packages from its cache, so the second environment on a machine takes seconds.
        (cd "$ROOT" && UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}" "$VENV/bin/uv" pip install --quiet \
            --python "$VENV/bin/python" --editable '.[all,efficientnet]' --group dev) >&2
        printf '%s\n' "$wanted" >"$stamp"
    fi
    exec {lock}<&-
    export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH"
}

create_environment
