# shellcheck shell=bash
# To be sourced after environment.sh. `start_docker` finds a Docker daemon or, as root, starts a private one that keeps
# its images in DEEPTERMS_CACHE (~/.cache/deepterms). `stop_docker` stops the private one if no other run still uses it.

DOCKER_GIBIBYTES_NEEDED=6 # base image, two engines, and the temporary files of building them

docker_responds() {
    (cd "$ROOT" && python -c 'from tests.clusters.images import connect; connect(timeout=10).__enter__()') 2>/dev/null
}

# Prints the process id of the private daemon, if it runs. The file may be a leftover from before a reboot.
private_daemon() {
    local pid
    pid="$(cat "$DOCKER_RUN/docker.pid" 2>/dev/null)" || return 0
    if grep --quiet --null-data --fixed-strings --line-regexp "$DOCKER_HOST" "/proc/$pid/cmdline" 2>/dev/null; then
        echo "$pid"
    fi
}

start_docker() {
    docker_responds && return
    [[ -z ${DOCKER_HOST:-} ]] || { say "Docker does not respond at $DOCKER_HOST" && return 1; }
    [[ $EUID -eq 0 ]] || { say "Docker does not respond, and only root can start it" && return 1; }
    if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null; then
        install_debian_packages docker.io debootstrap || { say "install docker.io and debootstrap" && return 1; }
        docker_responds && return # the package started its service
    fi

    local storage="${DEEPTERMS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/deepterms}/docker" free
    mkdir -p "$storage" && storage="$(cd "$storage" && pwd -P)"
    free="$(df --output=avail --block-size=1G "$storage" | tail -n 1)"
    if ((free < DOCKER_GIBIBYTES_NEEDED)); then
        say "$storage has $free GiB free; Docker needs $DOCKER_GIBIBYTES_NEEDED" && return 1
    fi

    # One daemon per storage folder, whoever starts it: two would damage it. It is under /run because a socket's path is
    # limited to 107 bytes. Each run holds a shared lock on `users` while it needs the daemon.
    DOCKER_RUN="/run/deepterms-$(printf '%s' "$storage" | sha256sum | head -c 8)"
    mkdir -p "$DOCKER_RUN" && chmod 700 "$DOCKER_RUN"
    export DOCKER_HOST="unix://$DOCKER_RUN/docker.sock"
    # Ports are published on this machine; if it is itself a container, testcontainers would look for them on its host.
    export TESTCONTAINERS_HOST_OVERRIDE=localhost
    # Ryuk, which cleans up after killed runs, would be another image; tests/clusters/images.py cleans up instead.
    export TESTCONTAINERS_RYUK_DISABLED=true
    exec 7>"$DOCKER_RUN/starting" 8>"$DOCKER_RUN/users"
    flock 7
    flock --shared 8
    if ! docker_responds; then
        [[ -z "$(private_daemon)" ]] || { say "Docker does not respond at $DOCKER_HOST" && return 1; }
        rm -f "$DOCKER_RUN/docker.pid"
        say "starting a private Docker daemon"
        # In its own session, so that Ctrl-C does not stop it before the tests have removed their containers.
        setsid dockerd --host "$DOCKER_HOST" --data-root "$storage" --exec-root "$DOCKER_RUN/exec" \
            --pidfile "$DOCKER_RUN/docker.pid" >"$DOCKER_RUN/docker.log" 2>&1 7>&- 8>&- &
        local deadline=$((SECONDS + 60))
        until docker_responds; do
            if ((SECONDS > deadline)) || ! kill -0 $! 2>/dev/null; then
                say "the Docker daemon did not start:"
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
        ((SECONDS < deadline)) || { say "the Docker daemon (process $pid) did not stop" && return 0; }
        sleep 0.2
    done
}
