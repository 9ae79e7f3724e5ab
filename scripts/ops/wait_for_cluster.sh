#!/bin/sh
# Waits until a cluster responds and is at least yellow, so that every index can be searched and written. Exits with
# status 1 after the timeout.
#
#   scripts/ops/wait_for_cluster.sh [--status yellow|green] [--timeout SECONDS] [URL]
#
#   --status    yellow, or green to wait for replicas as well; default: yellow
#   --timeout   how many seconds to wait; default: 120
#
#   DEEPTERMS_URL                            address of the cluster, if not given as an argument
#   DEEPTERMS_USER and DEEPTERMS_PASSWORD    basic authentication
#   DEEPTERMS_API_KEY                        Elasticsearch API key, instead of a user and a password
#   DEEPTERMS_CA_CERTS                       CA that signed the cluster's certificate, which is always verified
set -eu
top="$(cd "$(dirname "$0")/../.." && pwd)"
# shellcheck source-path=SCRIPTDIR source=lib/cluster.sh
. "$top/scripts/ops/lib/cluster.sh"

wanted=yellow seconds=120
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) print_help && exit 0 ;;
        --status | --timeout)
            [ $# -gt 1 ] || wrong_usage "$1 needs a value"
            if [ "$1" = --status ]; then wanted="$2"; else seconds="$2"; fi
            shift
            ;;
        -*) wrong_usage "unknown option $1" ;;
        *) break ;;
    esac
    shift
done
[ $# -le 1 ] || wrong_usage "expected one URL, got $#"
case "$wanted" in
    yellow | green) ;;
    *) wrong_usage "'$wanted' is not a status to wait for; expected yellow or green" ;;
esac
check_seconds "$seconds"
use_cluster "$@"

request_seconds=10
deadline=$(($(date +%s) + seconds))
while :; do
    if seen="$(request GET "/_cluster/health?wait_for_status=$wanted&timeout=2s" 2>&1 && say "$status $answer")"; then
        case "$seen" in
            200*) break ;;
            401* | 403*) die "the cluster rejects the credentials: HTTP $seen" ;; # waiting would not help
        esac
    fi
    [ "$(date +%s)" -lt "$deadline" ] || die "not $wanted within $seconds s: $seen"
    sleep 1
done
say "$wanted, or better"
