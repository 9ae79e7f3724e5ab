# shellcheck shell=sh
# To be sourced by the ops scripts, which need only curl and a POSIX shell. Credentials come from the environment and are
# passed to curl on its standard input, so that they never appear in a process list.
#
#   DEEPTERMS_URL                            address of the cluster, if not given as an argument
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        Elasticsearch API key, instead of a user and a password
#   DEEPTERMS_CA_CERTS                       CA that signed the cluster's certificate, which is always verified
#
# The script must first set `top`, the parent folder of scripts/.

: "${top:?the script that sources this must set it}"

newline='
'
request_seconds=300 # timeout of a request

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

wrong_usage() {
    printf '%s: %s; see %s --help\n' "${0##*/}" "$*" "$0" >&2
    exit 2
}

# Prints the comment at the top of the script.
print_help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# use_cluster [URL] – sets the cluster that requests are sent to.
use_cluster() {
    cluster="${1:-${DEEPTERMS_URL:-}}"
    case "$cluster" in
        http://* | https://*) cluster="${cluster%/}" ;;
        '') wrong_usage 'no cluster given; pass its URL, or set DEEPTERMS_URL' ;;
        *) wrong_usage "'$cluster' is not the address of a cluster, such as http://localhost:9200" ;;
    esac
    command -v curl >/dev/null || die 'curl is not installed'
}

# check_name WHAT NAME – requires a name that needs no quoting in paths, JSON and patterns.
check_name() {
    case "$2" in
        '' | .* | -* | *[!a-z0-9._-]*) wrong_usage "invalid name of the $1: '$2'; expected a-z, 0-9, '.', '_' and '-'" ;;
    esac
}

# check_seconds NUMBER
check_seconds() {
    case "$1" in
        '' | *[!0-9]*) wrong_usage "'$1' is not a number of seconds" ;;
    esac
}

# Escapes text for a quoted string in JSON or in curl's configuration.
escape_quotes() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }

curl_option() { printf '%s = "%s"\n' "$1" "$(escape_quotes "$2")"; }

curl_options() { # METHOD PATH [BODY]
    curl_option url "$cluster$2"
    curl_option request "$1"
    curl_option header 'Content-Type: application/json'
    if [ $# -gt 2 ]; then curl_option data-binary "$3"; fi
    if [ -n "${DEEPTERMS_USER:-}" ]; then
        curl_option user "$DEEPTERMS_USER:${DEEPTERMS_PASSWORD:-}"
    elif [ -n "${DEEPTERMS_API_KEY:-}" ]; then
        curl_option header "Authorization: ApiKey $DEEPTERMS_API_KEY"
    fi
    if [ -n "${DEEPTERMS_CA_CERTS:-}" ]; then curl_option cacert "$DEEPTERMS_CA_CERTS"; fi
}

# request METHOD PATH [BODY] – sets `status` and `answer`; fails if there is no response. `@FILE` reads the body from a file.
request() {
    # --disable, because a .curlrc could turn off certificate verification.
    answer="$(curl_options "$@" | curl --disable --config - --silent --show-error --connect-timeout 10 \
        --max-time "$request_seconds" --write-out '\n%{http_code}')" || return 1
    status="${answer##*"$newline"}"
    answer="${answer%"$newline"*}"
}

# must METHOD PATH [BODY] – sends a request, and exits with the response of the cluster if it is an error.
must() {
    request "$@" || die "no response from the cluster to $1 $2"
    [ "$status" -lt 300 ] || die "$1 $2: HTTP $status $answer"
}

# at_least VERSION FIRST – whether a version such as 3.8.0 is at least FIRST, such as 2.10.
at_least() {
    major="${1%%.*}" minor="${1#*.}" first_major="${2%%.*}" first_minor=0
    case "$2" in *.*) first_minor="${2#*.}" ;; esac
    minor="${minor%%.*}" first_minor="${first_minor%%.*}"
    [ "$major" -gt "$first_major" ] || { [ "$major" -eq "$first_major" ] && [ "$minor" -ge "$first_minor" ]; }
}

# Sets `engine` and `engine_version`.
detect_engine() {
    must GET /
    about="$(printf '%s' "$answer" | tr -d ' \n\r\t')"
    case "$about" in
        *'"distribution":"opensearch"'*) engine=OpenSearch ;;
        *) engine=Elasticsearch ;;
    esac
    engine_version="$(printf '%s' "$about" | sed -n 's/.*"number":"\([0-9][0-9.]*\).*/\1/p')"
    [ -n "$engine_version" ] || die "the response of the cluster contains no version: $answer"
}

# Sets `resources` to those of every layout that the engine supports: first the pipelines that take terms, then the other
# pipelines, which may call those, then the templates, which refer to both. One per line, as folder/name.
find_resources() {
    detect_engine
    layouts=''
    for file in "$top"/index_templates/deepterms-*-v*.json; do
        # Each template's description ends with the engines that support it.
        first="$(sed -n "s/.*$engine \([0-9][0-9.]*\) or later.*/\1/p" "$file")"
        if [ -n "$first" ] && at_least "$engine_version" "$first"; then
            layout="${file##*/deepterms-}"
            layouts="$layouts ${layout%.json}"
        fi
    done
    [ -n "$layouts" ] || die "$engine $engine_version supports none of the layouts"
    resources=''
    for pattern in ingest_pipelines/deepterms- 'ingest_pipelines/deepterms-*-' index_templates/deepterms-; do
        for layout in $layouts; do
            # shellcheck disable=SC2231 # the pattern must expand
            for file in "$top"/$pattern"$layout".json; do
                [ -f "$file" ] || continue
                resource="${file#"$top"/}"
                resources="$resources$newline${resource%.json}"
            done
        done
    done
    resources="${resources#"$newline"}"
}

# endpoint FOLDER/NAME – prints the path of the resource in the cluster's API.
endpoint() {
    case "$1" in
        ingest_pipelines/*) say "/_ingest/pipeline/${1#*/}" ;;
        *) say "/_index_template/${1#*/}" ;;
    esac
}

# Sets `expected`, the version of this release's file, and `held`, the version in the cluster: `missing` if the resource
# does not exist, empty if it has no version.
# shellcheck disable=SC2034 # read by the scripts
compare_versions() { # FOLDER/NAME
    expected="$(sed -n 's/^  "version": \([0-9][0-9]*\),\{0,1\}$/\1/p' "$top/$1.json")"
    [ -n "$expected" ] || die "$top/$1.json has no version"
    request GET "$(endpoint "$1")?filter_path=*.version,index_templates.index_template.version" ||
        die "no response from the cluster about $1"
    if [ "$status" -eq 404 ]; then
        held=missing
    elif [ "$status" -lt 300 ]; then
        held="$(printf '%s' "$answer" | sed -n 's/.*"version":\([0-9][0-9]*\).*/\1/p')"
    else
        die "$1: HTTP $status $answer"
    fi
}
