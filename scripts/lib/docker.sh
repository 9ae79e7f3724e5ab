# shellcheck shell=bash
# Sourced after environment.sh. `start_docker` finds a Docker daemon, or as root starts a private one that keeps its
# images in DEEPTERMS_CACHE (~/.cache/deepterms); `stop_docker` ends the private one when no other run uses it any more.

DOCKER_GIBIBYTES_NEEDED=6 # base image, two engines, and what building them needs for a while

docker_answers() {
    (cd "$ROOT" && python -c 'from tests.clusters.images import connect; connect(timeout=10).__enter__()') 2>/dev/null
}

# The process of the private daemon, or nothing. Its file may be older than the machine's last start.
private_daemon() {
    local pid
    pid="$(cat "$DOCKER_RUN/docker.pid" 2>/dev/null)" || return 0
    if grep --quiet --null-data --fixed-strings --line-regexp "$DOCKER_HOST" "/proc/$pid/cmdline" 2>/dev/null; then
        echo "$pid"
    fi
}

start_docker() {
    docker_answers && return
    [[ -z ${DOCKER_HOST:-} ]] || { say "no answer from Docker at $DOCKER_HOST" && return 1; }
    [[ $EUID -eq 0 ]] || { say "Docker does not answer, and only root can start it" && return 1; }
    if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null; then
        install_debian_packages docker.io debootstrap || { say "install docker.io and debootstrap" && return 1; }
        docker_answers && return # the package's own service
    fi

    local storage="${DEEPTERMS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/deepterms}/docker" free
    mkdir -p "$storage" && storage="$(cd "$storage" && pwd -P)"
    free="$(df --output=avail --block-size=1G "$storage" | tail -n 1)"
    if ((free < DOCKER_GIBIBYTES_NEEDED)); then
        say "$storage has $free GiB free; Docker needs $DOCKER_GIBIBYTES_NEEDED" && return 1
    fi

    # One daemon a storage folder, whoever starts it: two would damage it. Under /run, for a socket's path is at most
    # 107 bytes long. Each run holds a shared lock on `users` while it needs the daemon.
    DOCKER_RUN="/run/deepterms-$(printf '%s' "$storage" | sha256sum | head -c 8)"
    mkdir -p "$DOCKER_RUN" && chmod 700 "$DOCKER_RUN"
    export DOCKER_HOST="unix://$DOCKER_RUN/docker.sock"
    # Ports are published on this machine, even where it is itself a container and testcontainers would look outside.
    export TESTCONTAINERS_HOST_OVERRIDE=localhost
    # Ryuk, which removes what a killed run leaves, is one more image; tests/clusters/images.py does that here.
    export TESTCONTAINERS_RYUK_DISABLED=true
    exec 7>"$DOCKER_RUN/starting" 8>"$DOCKER_RUN/users"
    flock 7
    flock --shared 8
    if ! docker_answers; then
        [[ -z "$(private_daemon)" ]] || { say "no answer from Docker at $DOCKER_HOST" && return 1; }
        rm -f "$DOCKER_RUN/docker.pid"
        say "starting a private Docker daemon"
        # A session of its own: Ctrl-C must reach the tests first, which still have containers to remove.
        setsid dockerd --host "$DOCKER_HOST" --data-root "$storage" --exec-root "$DOCKER_RUN/exec" \
            --pidfile "$DOCKER_RUN/docker.pid" >"$DOCKER_RUN/docker.log" 2>&1 7>&- 8>&- &
        local deadline=$((SECONDS + 60))
        until docker_answers; do
            if ((SECONDS > deadline)) || ! kill -0 $! 2>/dev/null; then
                say "the Docker daemon does not start:"
                tail -n 5 "$DOCKER_RUN/docker.log" >&2
                return 1
            fi
            sleep 0.5
        done
    fi
    exec 7>&-
}

stop_docker() {
    [[ -n ${DOCKER_RUN:-} ]] || return 0
    exec 7>"$DOCKER_RUN/starting"
    flock 7
    local pid deadline=$((SECONDS + 30))
    pid="$(private_daemon)"
    if [[ -z $pid ]] || ! flock --exclusive --nonblock 8; then return 0; fi
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        ((SECONDS < deadline)) || { say "the Docker daemon (process $pid) does not stop" && return 0; }
        sleep 0.2
    done
}
